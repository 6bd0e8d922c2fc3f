"""The decision threshold of a model, as it is stored with it."""

from dataclasses import dataclass

from adcommon.types.values import Positive, Rate


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
