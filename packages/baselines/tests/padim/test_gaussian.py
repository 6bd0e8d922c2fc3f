import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipys

from adcommon.errors import BadValue
from baselines.padim.gaussian import RunningGaussian, leave_one_out, mahalanobis


@pytest.fixture
def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    mixed = torch.randn(30, 5, 4, 3, generator=generator)
    mixed[:, 1] += 2 * mixed[:, 0]
    return mixed + 1000 * torch.rand(1, 5, 4, 3, generator=generator)  # a mean far from 0


def fitted(features: torch.Tensor, batch: int) -> RunningGaussian:
    gaussian = RunningGaussian(12, 5)
    for some in features.split(batch):
        gaussian.update(some)
    return gaussian


@pytest.mark.parametrize("batch", [1, 7, 30])
def test_batches_add_up_to_numpys_mean_and_covariance(features, batch) -> None:
    gaussian = fitted(features, batch)
    values = features.double().flatten(2).permute(2, 0, 1).numpy()
    np.testing.assert_allclose(gaussian.mean.numpy(), values.mean(1), rtol=1e-6)
    for scatter, position in zip(gaussian.scatter.numpy(), values, strict=True):
        np.testing.assert_allclose(scatter / 29, np.cov(position.T), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("prior", [0.0, 10.0])
def test_distances_are_scipys_with_the_inverse_of_each_covariance(features, prior) -> None:
    features = features - features.mean(0)
    gaussian = fitted(features, 8)
    positions = features.flatten(2).permute(2, 0, 1).double().numpy()
    covariances = [np.cov(values.T) for values in positions]
    share = prior / (prior + 30)
    covariances = [(1 - share) * one + share * np.mean(covariances, axis=0) for one in covariances]
    inverses = [np.linalg.inv(one + 0.01 * np.eye(5)) for one in covariances]
    wanted = [
        [scipys(value, values.mean(0), inverse) for value in values]
        for values, inverse in zip(positions, inverses, strict=True)
    ]
    got = mahalanobis(features, gaussian.mean, gaussian.whitening(epsilon=0.01, prior=prior))
    np.testing.assert_allclose(got.flatten(1).T.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_few_images_lend_from_the_other_positions(features) -> None:
    few = features[:3] - features[:3].mean(0)
    alone = fitted(few, 3).whitening(epsilon=0.01, prior=0.0)
    lent = fitted(few, 3).whitening(epsilon=0.01, prior=10.0)
    strange = few[:1] + torch.randn(1, 5, 4, 3, generator=torch.Generator().manual_seed(9))
    spread = [mahalanobis(strange, torch.zeros(12, 5), whitening).std() for whitening in (alone, lent)]
    assert spread[1] < spread[0] / 2


def test_what_has_no_spread_is_refused_by_name() -> None:
    with pytest.raises(BadValue, match="at least 2"):
        fitted(torch.zeros(1, 5, 4, 3), 1).whitening(epsilon=0.01, prior=0.0)
    gaussian = fitted(torch.full((3, 5, 4, 3), torch.nan), 3)
    with pytest.raises(BadValue, match=r"--features, or a larger --epsilon"):
        gaussian.whitening(epsilon=0.01, prior=0.0)


@pytest.mark.parametrize("images", [19, 30])
@pytest.mark.parametrize("prior", [0.0, 10.0])
def test_leaving_one_out_is_nearly_refitting_without_it(features, images, prior) -> None:
    features = (features - features.mean(dim=0))[:images]

    def distances(seen: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        gaussian = fitted(seen, len(seen))
        whitening = gaussian.whitening(epsilon=1e-3, prior=prior)
        return mahalanobis(asked, gaussian.mean, whitening)

    ours = leave_one_out(distances(features, features), images, prior)
    refitted = [
        distances(torch.cat([features[:place], features[place + 1 :]]), features[place : place + 1])
        for place in range(images)
    ]
    torch.testing.assert_close(ours, torch.cat(refitted), rtol=0.03, atol=0.0)
    assert (ours / distances(features, features)).mean() > 1.05  # it makes a difference
