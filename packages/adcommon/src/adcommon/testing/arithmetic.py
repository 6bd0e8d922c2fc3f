"""How far another way to compute moves what a detector says."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.models.compute import Computes, ask
from adcommon.types.arithmetic import Precision
from adcommon.types.prediction import Prediction


def varied_images(count: int = 12, size: int = 64) -> Float[Tensor, "count 3 size size"]:
    """Drawn images, normalised, of rising contrast and different structure, so that scores differ."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.randn(count, 3, size // 8, size // 8, generator=generator)
    fine = torch.randn(count, 3, size, size, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size, mode="bilinear") + 0.3 * fine
    return images * torch.linspace(0.2, 2.0, count)[:, None, None, None]


def assert_near(
    detector: Computes,
    images: Float[Tensor, "batch 3 height width"],
    share: float,
    *,
    precision: Precision | None = "bf16",
    compiles: bool = False,
) -> None:
    """Assert that scores and maps are float32 and move by no more than a share of their range, if at all.

    Half precision must move something, and leave the order of the scores as it is but for neighbours.
    """
    plain = detector.score(images)
    before = detector.compute
    ask(detector, precision, compiles=compiles)
    other = detector.score(images)
    detector.compute = before
    for ours, theirs in zip(_values(other), _values(plain), strict=True):
        assert ours.dtype == torch.float32
        moved = float((ours - theirs).abs().max() / (theirs.max() - theirs.min()))
        assert moved <= share, f"moved by {moved:.2g} of the range"
        assert compiles or moved > 0
    ranks = [values.argsort().argsort().numpy() for values in (plain.image_scores, other.image_scores)]
    assert np.corrcoef(*ranks)[0, 1] > 0.95


def _values(prediction: Prediction) -> list[Tensor]:
    assert prediction.anomaly_maps is not None
    return [prediction.image_scores, prediction.anomaly_maps]
