"""Are these still images of the kind that the threshold was chosen from? Asked of the scores alone."""

import math

import numpy as np
from jaxtyping import Float

from adcommon.types.threshold import Threshold

RATE = 0.01
"""How often the warning comes although nothing has changed."""
FEWEST_IMAGES = 10
"""Of either side, for a test to say anything."""


def drift(scores: Float[np.ndarray, " images"], promise: Threshold) -> str | None:
    """What is to be said of a batch whose scores do not look like those of the calibration; None: nothing.

    A batch may hold defects, so only the images that are called normal are compared with the calibration's
    images that are: of the same kind, their scores have one distribution. Where most of a batch is anomalous
    there is nothing to compare, and that is said instead.
    """
    normal = np.sort(scores[scores <= promise.value])
    known = np.array([score for score in promise.scores if score <= promise.value])
    if len(scores) >= FEWEST_IMAGES and 2 * len(normal) < len(scores):
        return (
            f"{len(scores) - len(normal)} of {len(scores)} images are called anomalous. If most of them are "
            "good, they are not of the kind that the model knows: other parts, another camera or light. Then "
            "train it with some of them"
        )
    if min(len(normal), len(known)) < FEWEST_IMAGES:
        return None
    chance = two_sample(normal, known)
    if chance >= RATE:
        return None
    word = "higher" if np.median(normal) > np.median(known) else "lower"
    return (
        f"images that are called normal score {word} than the good images of the calibration did "
        f"(Kolmogorov-Smirnov, p = {chance:.1g}): camera, light or parts may have changed, and the "
        "false-alarm rate may be another"
    )


def two_sample(ours: Float[np.ndarray, " ours"], theirs: Float[np.ndarray, " theirs"]) -> float:
    """The p-value of the two-sided Kolmogorov-Smirnov test of two samples, each sorted.

    Source: Stephens' approximation (J. R. Stat. Soc. B 32, 1970), careful where there are ties.
    """
    both = np.concatenate([ours, theirs])
    shares = [np.searchsorted(each, both, side="right") / len(each) for each in (ours, theirs)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    size = math.sqrt(len(ours) * len(theirs) / (len(ours) + len(theirs)))
    scaled = (size + 0.12 + 0.11 / size) * distance
    if scaled < 0.3:  # the series below needs many terms there; it is 1
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 50))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))
