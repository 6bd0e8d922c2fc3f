import pytest
import torch

from inctrl.network.residual import own_residual, patch_residual, relative_residual, text_score, unit


def brute_force(query, references):
    """Cosine by cosine, as the formula has it."""
    maps = []
    for ours, theirs in zip(query, references, strict=True):
        rows = torch.zeros(len(ours), ours.shape[1])
        for image in range(len(ours)):
            for patch in range(ours.shape[1]):
                rows[image, patch] = min(
                    0.5 * (1 - torch.cosine_similarity(ours[image, patch], other, dim=0))
                    for other in theirs[image % len(theirs)]
                )
        maps.append(rows)
    return torch.stack(maps).mean(dim=0)


@pytest.mark.parametrize("rows", [1, 3], ids=["shared references", "own references"])
def test_the_residual_is_the_formula(random_features, rows: int) -> None:
    query, references = (
        random_features(3, widths=(5, 7)),
        random_features(rows, patches=6, widths=(5, 7), seed=1),
    )
    got = patch_residual(query.levels, unit(references.levels))
    torch.testing.assert_close(got, brute_force(query.levels, references.levels))


def test_a_query_that_is_its_own_reference_has_no_residual(random_features) -> None:
    levels = random_features(2).levels
    assert patch_residual(levels, unit(levels)).abs().max() < 1e-6


def test_more_references_never_raise_the_residual_and_their_order_is_free(random_features) -> None:
    query, few, more = random_features(2), random_features(1, seed=1), random_features(1, seed=2)
    both = [torch.cat(pair, dim=1) for pair in zip(few.levels, more.levels, strict=True)]
    swapped = [torch.cat(pair, dim=1) for pair in zip(more.levels, few.levels, strict=True)]
    less = patch_residual(query.levels, unit(both))
    assert (less <= patch_residual(query.levels, unit(few.levels)) + 1e-6).all()
    assert torch.equal(less, patch_residual(query.levels, unit(swapped)))


def test_references_are_compared_with_the_others_alone_of_whatever_turn(random_features) -> None:
    """Three images of four patches in two turns, all turns of an image left out together."""
    turned = [level.unflatten(0, (2, 3)) for level in random_features(6, widths=(5, 7)).levels]
    expected = []
    for image in range(3):
        others = [number for number in range(3) if number != image]
        rest = [level[:, others].flatten(0, 2)[None] for level in turned]
        expected.append(patch_residual([level[0, image][None] for level in turned], unit(rest)))
    rows = unit([level.flatten(0, 2)[None] for level in turned])
    got = own_residual(rows, images=3, turns=2)
    torch.testing.assert_close(got, torch.cat(expected).mean()[None])
    twice = own_residual([torch.cat([row, row]) for row in rows], images=3, turns=2)
    torch.testing.assert_close(twice, got.expand(2))
    some = own_residual(rows, images=3, turns=2, compared=2)
    torch.testing.assert_close(some, torch.cat(expected[:2]).mean()[None])


def test_a_relative_residual_is_one_half_where_references_differ_as_much() -> None:
    residual, own = torch.tensor([[0.0, 0.1, 0.2], [0.0, 0.1, 0.2]]), torch.tensor([0.1, 0.2])
    got = relative_residual(residual, own)
    expected = torch.tensor([[0, 1 / 2, 2 / 3], [0, 1 / 3, 1 / 2]])
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert relative_residual(residual, torch.zeros(1)).isfinite().all()


def test_the_text_score_rises_towards_the_anomalous_sentences() -> None:
    text = torch.eye(2)
    tokens = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 0.5]])
    scores = text_score(tokens, text[None])
    assert scores[0] < 1e-6
    assert scores[1] == pytest.approx(0.5)
    assert scores[2] > 1 - 1e-6
    assert torch.equal(scores, text_score(tokens, text.expand(3, 2, 2)))
