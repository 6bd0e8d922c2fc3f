"""The decision threshold of a model: from scores of normal images alone, no defect and no test label is used.

Source: split conformal prediction; Angelopoulos and Bates (arXiv 2107.07511), Vovk (arXiv 1209.2673).
"""

import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from adcommon.errors import BadValue
from adcommon.types.values import Positive, Rate

logger = logging.getLogger(__name__)

ROUNDING = 1e-9
"""0.29 * 100 is 28.999999999999996 in floating point, and means 29."""
RATE = 0.05
"""False-alarm rate where none is asked for."""
MOST_IMAGES = 10_000
"""Of a calibration; more would change nothing that anybody sees."""
MOST_REFERENCES = 100
"""That are compared with all others: each takes the time of an image."""
CONFIDENCE = 0.95
Origin = Literal["held out", "left out in turn", "references", "given"]
_ORIGINS: dict[Origin, str] = {
    "held out": "normal images kept out of training",
    "left out in turn": "training images, each scored by the model of all others",
    "references": "reference images, each compared with all others",
    "given": "normal images given to `ad export` (more false alarms if the model has learned from these)",
}


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
    origin: Origin = "held out"
    """Which images these are."""
    scores: tuple[float, ...] = ()
    """Theirs, rising; none in a folder that was written before they were kept."""
    peaks: tuple[float, ...] = ()
    """The largest values of their anomaly maps, rising; none where there are no maps."""

    def __post_init__(self) -> None:
        """Refuse scores that are not those of the images."""
        for name, values in (("scores", self.scores), ("peaks", self.peaks)):
            if values and len(values) != self.images:
                raise BadValue(f"threshold.{name} has {len(values)} numbers; expected {self.images}")
            if not all(map(math.isfinite, values)) or list(values) != sorted(values):
                raise BadValue(f"threshold.{name} are not finite numbers that rise")

    @property
    def decision(self) -> float | None:
        """The value, if the rate is supported; else None: scores rank images, and decide nothing."""
        return self.value if self.supported else None

    def at(self, false_alarm_rate: float) -> "Threshold":
        """The threshold of another rate, from the same images.

        Raises:
            BadValue: the rate is none, or the images do not support it; or their scores were not kept.
        """
        if not self.scores:
            raise BadValue(
                "the scores that the model's threshold was chosen from were not kept with it; train it "
                "again, or give --threshold"
            )
        other = calibrate(self.scores, false_alarm_rate, self.origin, self.peaks)
        if not other.supported:
            raise BadValue(f"--false-alarm-rate {false_alarm_rate:g}: {other.remedy}")
        return other

    @property
    def colours(self) -> tuple[float, float, float] | None:
        """Where maps are dark, where they are outlined, and where they are brightest.

        Dark is what the maps of half of the normal images reach; outlined, what no more of them exceed than
        the false-alarm rate allows; brightest is four times as far from the first. None: there are no maps.
        """
        if not self.peaks:
            return None
        dark, outlined = self.peaks[(self.images - 1) // 2], self.peaks[-max(self._allowed, 1)]
        return dark, outlined, dark + 4 * (outlined - dark)

    def p_value(self, score: float) -> float | None:
        """Share of normal images that score at least as high, the image itself counted among them.

        If the image is normal, and exchangeable with the calibration images, this is at most p with
        probability at most p. None: the scores were not kept.
        """
        if not self.scores:
            return None
        return (1 + self.images - bisect_left(self.scores, score)) / (self.images + 1)

    @property
    def interval(self) -> tuple[float, float]:
        """The false-alarm rate of this very calibration is in here with a probability of 95 %.

        Of n exchangeable images without ties, P(new score > the m-th highest) is distributed as Beta(m,
        n + 1 - m) over draws of the calibration images.
        """
        allowed = max(self._allowed, 1)
        tail = (1 - CONFIDENCE) / 2
        return _beta_quantile(allowed, self.images, tail), _beta_quantile(allowed, self.images, 1 - tail)

    @property
    def promise(self) -> str:
        """What the decision is worth, in words."""
        low, high = self.interval
        sure = f"{CONFIDENCE:.0%} sure: {low:.2g} to {high:.2g}"
        return f"false-alarm rate {self.false_alarm_rate:g} ({sure}), from {self.images} {self.what}"

    @property
    def worth(self) -> str:
        """What is called anomalous and what that is worth, or why nothing is, in words."""
        if self.supported:
            return f"anomalous: a score above {self.value:.6g}; {self.promise}"
        return f"scores rank images, and decide nothing: {self.remedy}"

    @property
    def _allowed(self) -> int:
        return _allowed(self.false_alarm_rate, self.images)

    @property
    def what(self) -> str:
        """Which images the scores are of, in words."""
        return _ORIGINS[self.origin]

    def above(self, score: float) -> int:
        """How many of the images score higher."""
        return self.images - bisect_right(self.scores, score)

    @property
    def remedy(self) -> str:
        """What is missing, where the rate is not supported."""
        digits = math.floor(math.log10(self.images + 1)) + 2
        least = math.ceil(10**digits / (self.images + 1)) / 10**digits
        return (
            f"a false-alarm rate of {self.false_alarm_rate:g} needs {images_needed(self.false_alarm_rate)} "
            f"normal images, and there are {self.images} {self.what}; they support "
            f"--false-alarm-rate {least:g}"
        )


def calibrate(
    scores: Iterable[float],
    false_alarm_rate: float = RATE,
    origin: Origin = "held out",
    peaks: Iterable[float] = (),
) -> Threshold:
    """The threshold that normal images exceed with at most a given probability.

    With n calibration scores and m = floor(rate · (n + 1)), the value is the m-th highest score. If the
    calibration images were kept out of training and a new normal image comes from the same process (the n + 1
    scores are exchangeable), then P(new score > value) <= m / (n + 1) <= rate, whatever the scores'
    distribution. The probability is over the draw of the calibration images *and* of the new one; for one
    calibration set the rate varies around m / (n + 1), see `Threshold.interval`. Nothing is promised about
    how many defects are found, nor about images taken under other conditions. Of images that were left out in
    turn, and of references, the same holds as nearly as one image more or less changes no model.

    A rate needs n >= 1 / rate - 1 images (99 for 1 %); with fewer, m = 0 and no finite value keeps the
    promise.

    Args:
        origin: what images the scores are of.
        peaks: the largest values of the images' maps, if there are maps.
    """
    if not 0 < false_alarm_rate < 1:
        raise BadValue(
            f"--false-alarm-rate {false_alarm_rate}: expected a number above 0 and below 1, such as 0.01"
        )
    rising = sorted(map(float, scores))
    if not rising:
        raise BadValue(
            "no scores to calibrate the threshold on: keep some normal images out of training, "
            f"at least {images_needed(false_alarm_rate)} for a false-alarm rate of {false_alarm_rate:g}"
        )
    if broken := sum(not math.isfinite(score) for score in rising):
        raise BadValue(
            f"{broken} of {len(rising)} calibration scores are not finite; was the learning rate too high?"
        )
    allowed = _allowed(false_alarm_rate, len(rising))
    return Threshold(
        value=rising[-max(allowed, 1)],
        false_alarm_rate=false_alarm_rate,
        images=len(rising),
        supported=allowed > 0,
        origin=origin,
        scores=tuple(rising),
        peaks=tuple(sorted(map(float, peaks))),
    )


def left_out_places(references: int) -> range:
    """Which of so many references are left out in turn: all, or as many as may be, evenly.

    >>> list(left_out_places(3)), len(left_out_places(250))
    ([0, 1, 2], 84)
    """
    return range(0, references, -(-references // MOST_REFERENCES) or 1)


def images_needed(false_alarm_rate: float) -> int:
    """Fewest normal images that support a false-alarm rate.

    >>> images_needed(0.01), images_needed(0.05)
    (99, 19)
    """
    return math.ceil(1 / false_alarm_rate - 1 - ROUNDING)


def _allowed(false_alarm_rate: float, images: int) -> int:
    """Calibration images that may score as high as the threshold, itself among them."""
    return math.floor(false_alarm_rate * (images + 1) + ROUNDING)


def _beta_quantile(allowed: int, images: int, probability: float) -> float:
    """Quantile of Beta(allowed, images + 1 - allowed): that many of `images` uniform numbers lie below it."""
    of_all = math.lgamma(images + 1)
    logs = [of_all - math.lgamma(k + 1) - math.lgamma(images - k + 1) for k in range(allowed)]

    def fewer(rate: float) -> float:
        """P(fewer than `allowed` of `images` uniform numbers are below the rate)."""
        return math.fsum(
            math.exp(ways + k * math.log(rate) + (images - k) * math.log1p(-rate))
            for k, ways in enumerate(logs)
        )

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if fewer(middle) > 1 - probability else (low, middle)
    return high
