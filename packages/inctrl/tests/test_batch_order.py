import torch

from inctrl.batch_order import assign
from inctrl.network.features import Features


def numbered(images: int, levels: int = 3, patches: int = 2) -> Features:
    """Every number says where it came from: 100 level + image."""
    made = [
        (100.0 * level + torch.arange(images)).view(images, 1, 1).expand(-1, patches, 1).clone()
        for level in range(levels)
    ]
    return Features(torch.arange(float(images))[:, None], made)


def test_corrected_gives_each_query_its_own_levels_and_references() -> None:
    batch, shots = 4, 2
    levels, references, tokens = assign(numbered(batch), numbered(shots * batch), shots, "corrected")
    for image in range(batch):
        own = [image, batch + image]  # shot-major
        assert tokens[image, :, 0].tolist() == own
        for level in range(3):
            assert levels[level][image, 0, 0] == 100 * level + image
            assert references[level][image, :, 0].tolist() == [100 * level + n for n in own for _ in range(2)]


def test_reference_reads_a_reshape_where_a_permutation_was_meant() -> None:
    batch, shots, count = 4, 2, 3
    levels, references, tokens = assign(numbered(batch), numbered(shots * batch), shots, "reference")
    for item in range(batch):
        for slot in range(count):
            n = count * item + slot
            assert levels[slot][item, 0, 0] == 100 * (n // batch) + n % batch
            for shot in range(shots):
                m = n * shots + shot
                expected = 100 * (m // (shots * batch)) + m % (shots * batch)
                assert references[slot][item, 2 * shot, 0] == expected
        assert tokens[item, :, 0].tolist() == [item * shots + shot for shot in range(shots)]


def test_for_one_query_the_orders_agree(random_features) -> None:
    query, references = random_features(1), random_features(3, seed=1)
    ours, theirs = assign(query, references, 3, "corrected"), assign(query, references, 3, "reference")
    for a, b in zip((*ours[0], *ours[1], ours[2]), (*theirs[0], *theirs[1], theirs[2]), strict=True):
        assert torch.equal(a, b)
