"""Where anomalies may be put: the object, not its background; the paper's rules and general ones.

A rule reads one channel of an image, splits it at a threshold that the image itself gives, keeps the bright
or the dark side, and closes and opens what is left. Textures have no background: everything is foreground.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.ndimage import binary_fill_holes
from skimage.morphology import closing, footprint_rectangle, opening

from adcommon.errors import unknown_name
from realnet.synthesis.opencv import grey, otsu_threshold, triangle_threshold

Image = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]


MIXED = 0.1
"""Share of the border that may lie on the other side of the threshold: a part that the picture cuts."""


@dataclass(frozen=True, kw_only=True)
class ForegroundRule:
    """How the foreground of an image is found; by default everything is foreground."""

    threshold: Literal["none", "otsu", "triangle"] = "none"
    """"none": no threshold, everything is foreground."""
    channel: Literal["grey", "green", "blue"] = "grey"
    """What the threshold is taken of."""
    bright: bool | None = True
    """Foreground is above the threshold; False: not above it; None: the side that the picture's border is not
    on, and everything where the border is on both."""
    close: int = 0
    """Side of the square that closes gaps, pixels of the training size; 0: none."""
    open: int = 0
    """Side of the square that removes specks afterwards."""
    fill: bool = False
    """Then fill the holes."""

    def __call__(
        self, images: UInt8[np.ndarray, "batch height width 3"]
    ) -> Bool[np.ndarray, "batch height width"]:
        """The foreground of each image."""
        if self.threshold == "none":
            return np.ones(images.shape[:3], dtype=bool)
        values = (
            grey(images) if self.channel == "grey" else images[..., ("green", "blue").index(self.channel) + 1]
        )
        return np.stack([self._mask(channel) for channel in values])

    def _mask(self, values: UInt8[np.ndarray, "height width"]) -> Mask:
        find = otsu_threshold if self.threshold == "otsu" else triangle_threshold
        above = values > find(np.ascontiguousarray(values))
        bright = _bright_inside(above) if self.bright is None else self.bright
        if bright is None:
            return np.ones_like(above)
        mask = above == bright
        if self.close:
            mask = closing(mask, _square(self.close))
        if self.open:
            mask = opening(mask, _square(self.open))
        return binary_fill_holes(mask) if self.fill else mask


def _bright_inside(above: Mask) -> bool | None:
    """Whether the border is dark; None if neither side has nearly all of it."""
    border = np.concatenate([above[0], above[-1], above[1:-1, 0], above[1:-1, -1]])
    bright = border.mean()
    return None if MIXED < bright < 1 - MIXED else bool(bright < MIXED)


def _square(side: int) -> tuple[tuple[np.ndarray, int], ...]:
    """A square as a column after a row: the same result in half the time."""
    return footprint_rectangle((side, side), decomposition="separable")


ALL = ForegroundRule()
"""Everything; what the authors advise for other data."""

_MVTEC_BRIGHT = ForegroundRule(threshold="triangle", close=6, open=6)
_MVTEC_DARK = ForegroundRule(threshold="otsu", bright=False, close=6, open=6)
_VISA = ForegroundRule(threshold="otsu", close=3, open=3)
_VISA_BOARD = ForegroundRule(threshold="triangle", channel="blue", close=8, open=3)
_MPDD_BRACKET = ForegroundRule(threshold="otsu", channel="green", bright=False, close=6)
_MPDD_WHITE = ForegroundRule(threshold="otsu", channel="blue", close=6)
_BTAD = ForegroundRule(threshold="otsu", close=15, open=6)

NAMED = {
    "all": ALL,
    "otsu-bright": ForegroundRule(threshold="otsu", close=6, open=6),
    "otsu-dark": _MVTEC_DARK,
    "triangle-bright": _MVTEC_BRIGHT,
    "triangle-dark": ForegroundRule(threshold="triangle", bright=False, close=6, open=6),
    "object": ForegroundRule(threshold="otsu", bright=None, close=6, open=6, fill=True),
}
"""Rules for own data, by name: how to split, and which side is the object."""

_PAPER = {
    "mvtec": {
        "pill": NAMED["otsu-bright"],
        **dict.fromkeys(("hazelnut", "metal_nut", "toothbrush"), _MVTEC_BRIGHT),
        **dict.fromkeys(("bottle", "capsule", "grid", "screw", "zipper"), _MVTEC_DARK),
    },
    "visa": {
        **dict.fromkeys(("pcb1", "pcb2", "pcb3", "pcb4"), _VISA_BOARD),
        **dict.fromkeys(
            ("candle", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2", "pipe_fryum"), _VISA
        ),
    },
    "mpdd": {
        **dict.fromkeys(("bracket_black", "bracket_brown", "connector"), _MPDD_BRACKET),
        **dict.fromkeys(("bracket_white", "tubes"), _MPDD_WHITE),
        "metal_plate": ForegroundRule(threshold="otsu", bright=False, close=6),
    },
    "btad": dict.fromkeys(("01", "03"), _BTAD),
}
"""The reference's rules; a category that is not listed, of whatever dataset, is foreground everywhere."""


def rule_for(dataset: str, category: str, name: str = "auto") -> ForegroundRule:
    """The rule of a name; of "auto" the reference's for a category of a paper's dataset, else `ALL`.

    Raises:
        UnknownName: lists the rules there are.
    """
    if name == "auto":
        return _PAPER.get(dataset, {}).get(category, ALL)
    if name not in NAMED:
        raise unknown_name("foreground rule", name, NAMED)
    return NAMED[name]
