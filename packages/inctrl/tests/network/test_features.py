import torch

from inctrl.network.features import Tower, as_features


def test_patches_are_in_row_major_order_and_the_token_is_the_first_map() -> None:
    grid = torch.arange(6.0).view(1, 1, 2, 3)
    features = as_features([torch.tensor([[[[7.0]], [[8.0]]]]), grid])
    assert features.tokens.tolist() == [[7, 8]]
    assert features.levels[0][0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_both_kinds_of_backbone_are_towers(vision, with_text) -> None:
    assert isinstance(vision.tower, Tower)
    assert isinstance(with_text.tower, Tower)


def test_images_can_be_taken_out(random_features) -> None:
    features = random_features(5)
    part = features[1:3]
    assert torch.equal(part.tokens, features.tokens[1:3])
    assert all(torch.equal(a, b[1:3]) for a, b in zip(part.levels, features.levels, strict=True))
