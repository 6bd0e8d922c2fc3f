"""What a model says of one image."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from adcommon.data.preprocess import Preprocess

Decision = Literal["normal", "anomalous", "unfamiliar", "unknown"]


def decide(score: float | None, threshold: float | None, unfamiliar: str | None) -> Decision:
    """What is said of an image: a score above the threshold is anomalous, where the image is not unfamiliar.

    Args:
        unfamiliar: why it is, see `data.kind`; None: it is not, or no kind is known.
    """
    if score is None:
        return "unknown"
    if unfamiliar is not None:
        return "unfamiliar"
    if threshold is None:
        return "unknown"
    return "anomalous" if score > threshold else "normal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a model says of one image."""

    path: Path | None
    """None: the image came from memory."""
    score: float | None = None
    """Higher is more anomalous, no fixed range; None: there is an `error`."""
    p_value: float | None = None
    """Share of normal images that score at least as high, see `Threshold.p_value`; None: it is not known."""
    threshold: float | None = None
    """None: no threshold is known."""
    unfamiliar: str | None = None
    """Why the image is not of the kind that the model knows, so that its score says little; None: it is, or
    nothing is known of the kind."""
    error: str | None = None
    """Why the image could not be scored."""
    network_map: Float[np.ndarray, "map_height map_width"] | None = field(
        default=None, repr=False, compare=False
    )
    """The anomaly map at the size of the network's input, or as fine as that for each tile; None: the method
    has no maps."""
    preprocess: Preprocess = field(repr=False, compare=False)
    height: int = 0
    """Of the image, pixels."""
    width: int = 0
    view: Image.Image | None = field(default=None, repr=False, compare=False)
    """The image as pictures show it, if `Model.stream` was asked for it."""

    @property
    def is_anomalous(self) -> bool | None:
        """True if the score is greater than the threshold; None if one of them is unknown.

        It is never False of an unfamiliar image, but None.
        """
        if self.score is None or self.threshold is None:
            return None
        above = bool(self.score > self.threshold)
        return None if self.unfamiliar and not above else above

    @property
    def decision(self) -> Decision:
        """In a word; see `decide`."""
        return decide(self.score, self.threshold, self.unfamiliar)

    @property
    def anomaly_map(self) -> Float[np.ndarray, "height width"] | None:
        """Higher is more anomalous; at the size of the image, made of `network_map` each time it is asked."""
        if self.network_map is None:
            return None
        restored: np.ndarray = self.preprocess.restore(self.network_map, self.height, self.width)
        return restored
