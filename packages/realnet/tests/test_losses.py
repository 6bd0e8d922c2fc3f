import math

import pytest
import torch

from realnet.losses import feature_mse, segmentation_cross_entropy, segmentation_focal


def example() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, 8, 8, generator=draw), (torch.rand(2, 8, 8, generator=draw) > 0.7).float()


def test_an_undecided_map_costs_ln_2() -> None:
    logits, masks = torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4)
    assert float(segmentation_cross_entropy(logits, masks)) == pytest.approx(math.log(2))


def test_grey_edges_of_a_mask_count_as_normal() -> None:
    logits, masks = example()
    grey = torch.where(masks > 0, masks, 0.99)
    assert segmentation_cross_entropy(logits, grey) == segmentation_cross_entropy(logits, masks)


def test_the_focal_loss_without_focus_is_the_cross_entropy() -> None:
    logits, masks = example()
    plain = segmentation_focal(logits, masks, gamma=0.0, smooth=0.0)
    assert float(plain) == pytest.approx(float(segmentation_cross_entropy(logits, masks)), rel=1e-5)


def test_alpha_weighs_the_classes_and_easy_pixels_count_little() -> None:
    logits, masks = example()
    normal = segmentation_focal(logits, torch.zeros_like(masks), alpha=0.25)
    assert float(normal) == pytest.approx(0.25 * float(segmentation_focal(logits, torch.zeros_like(masks))))
    swapped = segmentation_focal(logits, torch.zeros_like(masks), alpha=0.25, balance_index=1)
    assert float(swapped) == pytest.approx(3 * float(normal))
    sure = torch.stack([torch.full((1, 4, 4), 9.0), torch.zeros(1, 4, 4)], dim=1)
    easy = torch.zeros(1, 4, 4)
    assert segmentation_focal(sure, easy) < 0.01 * segmentation_cross_entropy(sure, easy)


def test_features_are_compared_block_by_block() -> None:
    ours = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 2, 2)]
    wanted = [torch.ones_like(block) for block in ours]
    assert float(feature_mse(ours, wanted)) == 2.0
    with pytest.raises(ValueError, match="longer"):
        feature_mse(ours[:1], wanted)
