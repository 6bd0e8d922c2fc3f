"""Mean and covariance of the features at every position, in one pass, and their distance (section III)."""

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.errors import BadValue
from adcommon.models.compute import full_precision

POSITIONS_AT_ONCE = 64
"""Covariances that are inverted together."""


class RunningGaussian:
    """A Gaussian for each of many positions; batches are merged into it and forgotten.

    Chan, Golub and LeVeque's update: sums of squares are kept around the mean so far, so that float32 is
    enough whatever the mean.
    """

    def __init__(self, positions: int, channels: int, device: torch.device | str = "cpu") -> None:
        """Nothing was seen yet; takes 4 x positions x channels² bytes."""
        self.count = 0
        self.mean = torch.zeros(positions, channels, device=device)
        self.scatter = torch.zeros(positions, channels, channels, device=device)

    def update(self, features: Float[Tensor, "batch channels height width"]) -> None:
        """Take in a batch."""
        values = features.flatten(2).permute(2, 0, 1)
        seen, total = len(features), self.count + len(features)
        mean = values.mean(dim=1)
        shift = mean - self.mean
        # The shift of the mean is one more row of the scatter.
        rows = [values - mean[:, None], (self.count * seen / total) ** 0.5 * shift[:, None]]
        centred = torch.cat(rows, dim=1)
        with full_precision(centred.device):
            self.scatter.baddbmm_(centred.mT, centred)
        self.mean += shift * (seen / total)
        self.count = total

    def whitening(self, *, epsilon: float, prior: float) -> Float[Tensor, "positions channels channels"]:
        """Lower triangles W with WᵀW the inverse of each regularised covariance; takes the scatter's place.

        Args:
            epsilon: added to the diagonals.
            prior: the mean covariance of all positions joins each one's own, as if `prior` more images had
                shown it; 0: not.

        Raises:
            BadValue: fewer than two images were seen, or they are too much alike for this epsilon.
        """
        if self.count < 2:
            raise BadValue(f"{self.count} normal images; a Gaussian needs at least 2, and wants 50")
        identity = torch.eye(self.mean.shape[1], device=self.mean.device)
        mean = self.scatter.mean(dim=0) / (self.count - 1)
        own, shared = own_weight(self.count, prior), prior / (prior + self.count)
        for scatter in self.scatter.split(POSITIONS_AT_ONCE):
            covariance = own * scatter + shared * mean + epsilon * identity
            root, failed = torch.linalg.cholesky_ex(covariance)
            if failed.any() or not root.isfinite().all():
                raise BadValue(
                    f"the features of {self.count} normal images have a covariance that cannot be inverted; "
                    "take fewer --features, or a larger --epsilon"
                )
            scatter.copy_(torch.linalg.solve_triangular(root, identity.expand_as(root), upper=False))
        return self.scatter


def own_weight(count: int, prior: float) -> float:
    """What a position's own scatter is multiplied with in its covariance."""
    return count / (prior + count) / (count - 1)


def leave_one_out(
    distances: Float[Tensor, "batch height width"], count: int, prior: float
) -> Float[Tensor, "batch height width"]:
    """What the distances of training images would be if each had been left out of the Gaussians.

    Without x the mean moves by (x - mean) / (n - 1), and the scatter loses n / (n - 1) (x - mean)(x - mean)ᵀ:
    a change of rank one, of which Sherman and Morrison's formula gives the inverse. The weights of scatter,
    `prior` and `epsilon` stay those of n images, so that distances of 19 images or more are
    within two percent of those of Gaussians that are fitted anew.

    Args:
        distances: of images that the Gaussians were made of.
        count: of these images; at least 3.
        prior: that they were made with.
    """
    squares, more = distances.double().square(), count / (count - 1)
    left = (1 - more * own_weight(count, prior) * squares).clamp(min=torch.finfo(torch.float32).eps)
    return (more * (squares / left).sqrt()).float()


def mahalanobis(
    features: Float[Tensor, "batch channels height width"],
    mean: Float[Tensor, "positions channels"],
    whitening: Float[Tensor, "positions channels channels"],
) -> Float[Tensor, "batch height width"]:
    """Distance of each patch from the Gaussian of its position, in its standard deviations."""
    centred = features.flatten(2).permute(2, 1, 0) - mean[:, :, None]
    with full_precision(centred.device):
        distances = torch.bmm(whitening, centred).square().sum(dim=1).sqrt()
    return distances.T.unflatten(1, features.shape[2:])
