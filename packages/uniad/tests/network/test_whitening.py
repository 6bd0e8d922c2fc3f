import numpy as np
import pytest
import torch

from adcommon.errors import BadValue
from uniad.network.whitening import EPSILON, Whitening

CHANNELS = 6


@pytest.fixture
def maps() -> torch.Tensor:
    """Correlated channels of sizes from 0.3 to 3."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=generator) + 3 * torch.eye(CHANNELS)
    raw = torch.randn(40, CHANNELS, 5, 4, generator=generator)
    sizes = torch.logspace(-0.5, 0.5, CHANNELS)[:, None, None]
    return torch.einsum("oc,bchw->bohw", mixing, raw) * sizes + sizes


def fitted(maps: torch.Tensor, batch: int = 7) -> Whitening:
    whitening = Whitening(CHANNELS)
    whitening.fit(maps.split(batch))
    return whitening


def rows(maps: torch.Tensor) -> np.ndarray:
    return maps.movedim(1, -1).flatten(0, -2).double().numpy()


def test_the_patches_it_was_fitted_to_have_mean_0_and_no_correlations(maps) -> None:
    white = rows(fitted(maps)(maps))
    assert np.abs(white.mean(axis=0)).max() < 1e-4
    covariance = np.cov(white.T, bias=True)
    assert np.abs(covariance - np.eye(CHANNELS)).max() < 0.1


def test_lengths_are_mahalanobis_distances(maps) -> None:
    patches = rows(maps)
    covariance = np.cov(patches.T, bias=True)
    covariance += EPSILON * np.diag(covariance).mean() * np.eye(CHANNELS)
    centred = patches - patches.mean(axis=0)
    expected = np.einsum("pc,cd,pd->p", centred, np.linalg.inv(covariance), centred)
    found = np.square(rows(fitted(maps)(maps))).sum(axis=1)
    assert found == pytest.approx(expected, rel=1e-3)


def test_it_can_be_undone(maps) -> None:
    whitening = fitted(maps)
    assert whitening.undo(whitening(maps)).numpy() == pytest.approx(maps.numpy(), rel=1e-3, abs=1e-3)


def test_it_does_not_depend_on_batches_and_changes_nothing_before_it_is_fitted(maps) -> None:
    one, other = fitted(maps), fitted(maps, batch=40)
    assert one.factor.numpy() == pytest.approx(other.factor.numpy(), rel=1e-5)
    assert torch.equal(Whitening(CHANNELS)(maps), maps)


def test_patches_without_any_variance_are_refused() -> None:
    with pytest.raises(BadValue, match="--no-whiten"):
        fitted(torch.ones(4, CHANNELS, 2, 2))
