"""Features whose channels are uncorrelated and vary alike. Not in the paper.

A frozen network's channels differ in size and say much the same. A squared error is then that of a few
large directions, in which normal images differ most; defects show in the small ones (Rippel et al., ICPR
2020, arXiv 2005.14140). Whitened, every direction counts alike: the error is a Mahalanobis distance.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.models.compute import full_precision

EPSILON = 1e-3
"""Of the mean variance, added to every direction's."""


class Whitening(nn.Module):
    """The patches of normal images get mean 0 and, nearly, the identity as covariance; fitted once."""

    mean: Float[Tensor, " channels"]
    factor: Float[Tensor, "channels channels"]

    def __init__(self, channels: int) -> None:
        """Changes nothing before it is fitted."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("factor", torch.eye(channels))

    @torch.no_grad()
    def fit(self, batches: Iterable[Float[Tensor, "_ channels _height _width"]]) -> None:
        """Take mean and covariance of all patches, in one pass, in double precision.

        Raises:
            BadValue: the patches are all alike.
        """
        channels, count = len(self.mean), 0
        total = torch.zeros(channels, dtype=torch.float64)
        products = torch.zeros(channels, channels, dtype=torch.float64)
        for batch in batches:
            patches = batch.movedim(1, -1).flatten(0, -2).double().cpu()
            count += len(patches)
            total += patches.sum(dim=0)
            products.addmm_(patches.T, patches)
        mean = total / count
        covariance = products / count - mean[:, None] * mean
        covariance.diagonal().add_(EPSILON * covariance.diagonal().mean())
        root, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            raise BadValue("the normal images look all alike to the backbone; train with --no-whiten")
        identity = torch.eye(channels, dtype=torch.float64)
        self.mean.copy_(mean)
        self.factor.copy_(torch.linalg.solve_triangular(root, identity, upper=False))

    def forward(
        self, features: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The same patches, whitened."""
        centred = features.flatten(2) - self.mean[:, None]
        with full_precision(features.device):
            return (self.factor @ centred).unflatten(2, features.shape[2:])

    def undo(
        self, whitened: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The patches whose whitened form this is."""
        patches = torch.linalg.solve_triangular(self.factor, whitened.flatten(2), upper=False)
        return (patches + self.mean[:, None]).unflatten(2, whitened.shape[2:])
