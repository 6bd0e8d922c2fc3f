import pytest
import torch

from uniad.losses import feature_mse, image_mse
from uniad.model import Outputs


def test_both_losses_are_the_mean_of_squares_over_every_element() -> None:
    wanted = torch.zeros(2, 3, 4, 4)
    got = wanted.clone()
    got[0, 0, 0, 0] = 4
    assert feature_mse(Outputs(wanted, got)).item() == pytest.approx(16 / 96)
    assert image_mse(wanted, got).item() == pytest.approx(16 / 96)


def test_the_target_is_the_clean_feature_and_the_gradient_pulls_towards_it() -> None:
    features, rebuilt = torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2, requires_grad=True)
    feature_mse(Outputs(features, rebuilt)).backward()
    assert torch.equal(rebuilt.grad, torch.full_like(rebuilt, -2 / 8))
