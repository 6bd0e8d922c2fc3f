"""What a model says of one image."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from adcommon.data.preprocess import Preprocess


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

    @property
    def is_anomalous(self) -> bool | None:
        """True if the score is greater than the threshold; None if one of them is unknown."""
        return None if self.score is None or self.threshold is None else bool(self.score > self.threshold)

    @property
    def decision(self) -> Literal["normal", "anomalous", "unknown"]:
        """`is_anomalous` in a word."""
        if self.is_anomalous is None:
            return "unknown"
        return "anomalous" if self.is_anomalous else "normal"

    @property
    def anomaly_map(self) -> Float[np.ndarray, "height width"] | None:
        """Higher is more anomalous; at the size of the image, made of `network_map` each time it is asked."""
        if self.network_map is None:
            return None
        restored: np.ndarray = self.preprocess.restore(self.network_map[None], self.height, self.width)[0]
        return restored
