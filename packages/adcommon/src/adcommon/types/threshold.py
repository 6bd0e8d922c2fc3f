"""The decision threshold of a model, as it is stored with it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adcommon.types.values import Positive, Rate

ROUNDING = 1e-9
"""0.29 * 100 is 28.999999999999996 in floating point, and means 29."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """An image is called anomalous if its score is greater than `value`."""

    value: float
    """In the units of the detector's image scores."""
    false_alarm_rate: Rate
    """Fraction of normal images that may be called anomalous."""
    images: Positive
    """Normal images it was calibrated on."""
    supported: bool
    """False: too few images for this rate; `value` is then their highest score, and the rate that holds is
    1 / (images + 1)."""

    @property
    def decision(self) -> float | None:
        """The value, if the rate is supported; else None: scores rank images, and decide nothing."""
        return self.value if self.supported else None


def decision_of(stored: Mapping[str, Any] | None) -> float | None:
    """As `Threshold.decision`, of a threshold as a model's config has it; None: it has none."""
    return stored["value"] if stored and stored["supported"] else None


def images_needed(false_alarm_rate: float) -> int:
    """Fewest normal images that support a false-alarm rate.

    >>> images_needed(0.01), images_needed(0.05)
    (99, 19)
    """
    return math.ceil(1 / false_alarm_rate - 1 - ROUNDING)
