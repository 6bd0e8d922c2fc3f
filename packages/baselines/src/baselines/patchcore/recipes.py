"""Every number of the experiments, as in the papers (arXiv 2106.08265, 2405.14529). No torch here."""

from dataclasses import dataclass, replace
from typing import Literal

from adcommon.errors import BadValue
from adcommon.types.values import Count, Positive, Share
from baselines.recipe import Base, Strides


@dataclass(frozen=True, kw_only=True)
class Recipe(Base):
    """One experiment; the defaults are PatchCore's on MVTec AD, one memory per category."""

    strides: Strides = (8, 16)
    """Of the maps to use, pixels per cell, rising."""
    neighbourhood: Positive = 3
    """Side of the square of cells whose mean takes the place of each, odd; 1: each cell alone."""
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """Between patches: Euclidean, or one minus the cosine similarity."""

    coreset: Share = 0.1
    """Share of the patches that the memory keeps, spread over all of them; 1: all."""
    candidates: Count = 0
    """Patches to choose the coreset from, drawn at random, as many of each image; 0: all."""
    projection: Count = 128
    """Numbers to which patches are projected at random while the coreset is chosen; 0: none."""
    rotations: Positive = 1
    """Each normal image joins this often, turned by equal parts of a whole turn; for few images of objects
    that lie in any direction."""

    image_score: Literal["reweighted", "max", "top1", "patches1"] = "reweighted"
    """Image score: `reweighted`, the largest distance of a patch, less where its neighbour in the memory is a
    rare one; `max` or `top1`, maximum of the smoothed map or mean of its largest 1 %; `patches1`, mean of the
    largest 1 % of the patches' distances."""
    neighbours: Positive = 9
    """Of `reweighted`: patches of the memory around the nearest one."""

    def __post_init__(self) -> None:
        """Refuse values that would only fail later."""
        super().__post_init__()
        if self.neighbourhood % 2 == 0:
            raise BadValue(f"neighbourhood is {self.neighbourhood}; expected an odd number, such as 3")
        if not self.coreset:
            raise BadValue("coreset is 0, which keeps no patch; expected a share such as 0.1")


MVTEC = Recipe()
MVTEC_25 = replace(MVTEC, coreset=0.25)
MVTEC_1 = replace(MVTEC, coreset=0.01)

ANOMALYDINO = replace(
    MVTEC,
    backbone="vit_small_patch14_dinov2.lvd142m",
    layers=(11,),
    image_size=448,
    crop_size=None,
    neighbourhood=1,
    distance="cosine",
    coreset=1.0,
    image_score="patches1",
    rotations=8,
    shots=1,
)
"""AnomalyDINO (Damm et al., WACV 2025): tokens of DINOv2, few normal images, turned; without its masking of
the background, and with both sides of the picture at 448 pixels."""

OWN = replace(
    MVTEC,
    dataset="folder",
    image_size=256,
    crop_size=None,
    upright=True,
    candidates=100_000,
    calibration_share=0.1,
    precision="auto",
    deterministic=False,
)
"""For data the papers did not use: the whole picture, a bounded memory."""

SMALL = replace(
    OWN, backbone="tf_efficientnet_lite0.in1k", candidates=50_000, projection=64, image_score="max"
)
"""For two CPU cores: a small backbone whose weights are installed, 5,000 patches."""

RECIPES: dict[str, Recipe] = {
    "mvtec": MVTEC,
    "mvtec_25": MVTEC_25,
    "mvtec_1": MVTEC_1,
    "anomalydino": ANOMALYDINO,
    "own": OWN,
    "small": SMALL,
}
