"""Every number of the experiments, as in the paper (arXiv 2011.08785, section IV). No torch here."""

from dataclasses import dataclass, replace
from typing import Literal

from adcommon.types.values import AboveZero, NotNegative, Positive
from baselines.recipe import Base


@dataclass(frozen=True, kw_only=True)
class Recipe(Base):
    """One experiment; the defaults are the paper's on MVTec AD, one model per category."""

    features: Positive | None = 550
    """Channels to keep, drawn at random by the seed; none: all."""
    epsilon: AboveZero = 0.01
    """Added to the diagonal of every covariance."""
    prior: NotNegative = 0.0
    """Images' worth of the mean covariance of all positions that joins each position's own: the fewer images
    there are, the more it counts. Not in the paper."""
    image_score: Literal["max", "top1"] = "max"
    """Image score: maximum of the map, or mean of its largest 1 %."""


MVTEC = Recipe()
MVTEC_RESNET18 = replace(MVTEC, backbone="resnet18.tv_in1k", features=100)
"""The paper's lighter network."""

OWN = replace(
    MVTEC,
    dataset="folder",
    image_size=256,
    crop_size=None,
    upright=True,
    prior=10.0,
    calibration_share=0.1,
    precision="auto",
    deterministic=False,
)
"""For data the paper did not use: the whole picture, and a prior, chosen on `synthetic`, for few images."""

QUICKSTART = replace(OWN, dataset="elpv", backbone="tf_efficientnet_lite0.in1k", image_size=128, features=150)
"""Solar cells on two CPU cores: a small backbone whose weights are installed, small images."""

SMALL = replace(QUICKSTART, dataset="folder")

RECIPES: dict[str, Recipe] = {
    "mvtec": MVTEC,
    "mvtec_resnet18": MVTEC_RESNET18,
    "own": OWN,
    "small": SMALL,
    "quickstart": QUICKSTART,
}
