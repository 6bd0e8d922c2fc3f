"""Is an image of the kind that a model knows? Asked of the image as a whole, before any network. No torch.

A model scores whatever it is given. Whether the score means anything is judged by `STATISTICS`, which every
runtime has at hand: an image is unfamiliar if one of them lies far outside of what all normal images had.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64
from PIL import Image

from adcommon.errors import BadValue
from adcommon.types.values import Finite, Positive

RATE = 0.001
"""How often an image of the same kind is called unfamiliar at most, see `widening`."""
FEWEST_IMAGES = 8
"""That make a kind; fewer tell nothing of what the next one may look like."""
MOST_IMAGES = 1000
"""That are looked at for one; more would make it hardly narrower."""
_SIDE = 128
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number that an image has as a whole."""

    low: str
    """What an image is that has less of it: "darker"."""
    high: str
    """What it is that has more."""
    least: float
    """How far it must at least lie from all normal images: a difference, or with `by_ratio` a factor."""
    by_ratio: bool = False
    """Half and twice are equally far: its logarithm is compared."""

    def place(self, value: float) -> float:
        """Where the value lies on the scale on which it is compared."""
        return math.log(value) if self.by_ratio else value


STATISTICS = {
    "brightness": Statistic("darker", "brighter", 32.0),
    "contrast": Statistic("lower in contrast", "higher in contrast", 1.5, by_ratio=True),
    "red": Statistic("greener", "redder", 16.0),
    "yellow": Statistic("bluer", "yellower", 16.0),
    "balance": Statistic("more dark on bright", "more bright on dark", 0.25),
    "sharpness": Statistic("more blurred", "sharper", 1.15, by_ratio=True),
    "texture": Statistic("coarser", "finer in texture", 1.35, by_ratio=True),
    "proportion": Statistic("narrower", "wider", 1.2, by_ratio=True),
    "size": Statistic("smaller", "larger", 2.5, by_ratio=True),
}
"""Of an image that is made 128 pixels wide and high; the last two of the image itself.

Brightness and contrast: mean and standard deviation of grey, of 255. Red and yellow: means of R - G and of
(R + G) / 2 - B. Balance: (mean - median) / standard deviation of grey. Sharpness: mean absolute Laplacian,
divided by the mean absolute difference of neighbours; texture: the latter, divided by the standard deviation.
Proportion: width / height; size: the root of width x height, pixels."""


def appearance(image: Image.Image) -> Float64[np.ndarray, " statistics"]:
    """The `STATISTICS` of an image, in their order."""
    whole = image if image.mode in ("L", "RGB") else image.convert("RGB")
    small = whole.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2).convert("RGB")
    rgb = np.asarray(small, dtype=np.float64)
    grey = rgb @ np.array(_LUMA)
    red, green, blue = rgb.mean(axis=(0, 1))
    spread = max(float(grey.std()), 0.5)
    slope = max((np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()) / 2, 0.1)
    ring = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    bend = max(np.abs(4 * grey[1:-1, 1:-1] - ring).mean(), 0.1)
    balance = (grey.mean() - np.median(grey)) / spread
    colours = (red - green, (red + green) / 2 - blue)
    size = (image.width / image.height, math.sqrt(image.width * image.height))
    return np.array([grey.mean(), spread, *colours, balance, bend / slope, slope / spread, *size])


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the normal images of a category look like."""

    images: Positive
    """How many were looked at."""
    ranges: Mapping[str, tuple[Finite, Finite]]
    """The lowest and the highest value that they have, by the name of the statistic."""

    def __post_init__(self) -> None:
        """Refuse what no images give."""
        if self.images < FEWEST_IMAGES or list(self.ranges) != list(STATISTICS):
            raise BadValue(
                f"a kind of {self.images} images has the ranges {', '.join(self.ranges)[:60]!a}; expected at "
                f"least {FEWEST_IMAGES} images, and {', '.join(STATISTICS)}"
            )
        for name, (low, high) in self.ranges.items():
            if low > high or (STATISTICS[name].by_ratio and low <= 0):
                raise BadValue(f"the range of {name} is {low:g} to {high:g}; expected numbers that rise")

    @classmethod
    def of(cls, seen: Sequence[Float64[np.ndarray, " statistics"]]) -> "Kind | None":
        """The kind of normal images, by their `appearance`; None: they are too few."""
        if len(seen) < FEWEST_IMAGES:
            return None
        lowest, highest = np.min(seen, axis=0).tolist(), np.max(seen, axis=0).tolist()
        return cls(
            images=len(seen), ranges=dict(zip(STATISTICS, zip(lowest, highest, strict=True), strict=True))
        )

    @property
    def words(self) -> str:
        """The ranges."""
        ranges = (f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in self.ranges.items())
        return f"{', '.join(ranges)} ({self.images} normal images)"

    def strangeness(self, seen: Float64[np.ndarray, " statistics"]) -> tuple[float, str]:
        """How far an image lies outside of all ranges, and in words in which way; above 1 it is unfamiliar.

        A range is widened on either side by `widening` times its width, at least by `Statistic.least`; 1 is
        the end of that.
        """
        found = []
        for (name, ends), value in zip(self.ranges.items(), seen.tolist(), strict=True):
            statistic = STATISTICS[name]
            low, high, here = map(statistic.place, (*ends, value))
            least = math.log(statistic.least) if statistic.by_ratio else statistic.least
            beyond = max(low - here, here - high) / max(widening(self.images) * (high - low), least)
            word = statistic.low if here < low else statistic.high
            numbers = f"{name} {value:.3g}; theirs: {ends[0]:.3g} to {ends[1]:.3g}"
            found.append((beyond, f"{word} than all {self.images} normal images of the model ({numbers})"))
        return max(found)


def unfamiliar(kinds: Sequence[Kind], seen: Float64[np.ndarray, " statistics"]) -> str | None:
    """Why an image is of none of these kinds, in words; None: it is of one, or no kind is known."""
    strangeness, words = min((kind.strangeness(seen) for kind in kinds), default=(0.0, ""))
    return f"much {words}" if strangeness > 1 else None


@cache
def widening(images: int) -> float:
    """By how many times its width the range of a statistic is widened on either side.

    Let the statistic of images of one kind be distributed with exponential tails, heavier than a Gaussian's.
    The next of n images lies above all of them with probability 1 / (n + 1), and then the spacings of the
    n + 1, counted from the top, are independent and exponential with the rates 1, 2, ..., n (Rényi 1953). So
    it lies more than c ranges above the highest with probability Γ(n + 1) Γ(2 + c) / Γ(n + 1 + c) / (n + 1).
    This is the c that makes it `RATE`, shared among both ends of all `STATISTICS`.

    >>> [round(widening(images), 1) for images in (8, 20, 100, 1000)]
    [8.6, 3.4, 1.3, 0.5]
    """
    allowed = RATE / (2 * len(STATISTICS))

    def outside(c: float) -> float:
        spacings = math.lgamma(images + 1) + math.lgamma(2 + c) - math.lgamma(images + 1 + c)
        return math.exp(spacings) / (images + 1)

    low, high = 0.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle) > allowed else (low, middle)
    return high
