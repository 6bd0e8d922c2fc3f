"""The decision threshold, chosen from normal images alone: no defect is needed, no test label is used."""

import logging
import math

import numpy as np
from jaxtyping import Float

from adcommon.errors import BadValue
from adcommon.types.threshold import ROUNDING, Threshold, images_needed

logger = logging.getLogger(__name__)


def calibrate(scores: Float[np.ndarray, " images"], false_alarm_rate: float = 0.01) -> Threshold:
    """The threshold that normal images exceed with at most a given probability.

    With n calibration scores and m = floor(rate · (n + 1)), the value is the m-th highest score. If the
    calibration images were kept out of training and a new normal image comes from the same process (the n + 1
    scores are exchangeable), then P(new score > value) <= m / (n + 1) <= rate, whatever the scores'
    distribution. The probability is over the draw of the calibration images *and* of the new one; for one
    calibration set the rate varies around m / (n + 1), with a standard deviation of about sqrt(m) / n.
    Nothing is promised about how many defects are found, nor about images taken under other conditions.

    A rate needs n >= 1 / rate - 1 images (99 for 1 %); with fewer, m = 0 and no finite value keeps the
    promise.

    Source: split conformal prediction; Angelopoulos and Bates (arXiv 2107.07511).
    """
    if not 0 < false_alarm_rate < 1:
        raise BadValue(
            f"--false-alarm-rate {false_alarm_rate}: expected a number above 0 and below 1, such as 0.01"
        )
    if len(scores) == 0:
        raise BadValue(
            "no scores to calibrate the threshold on: keep some normal images out of training, "
            f"at least {images_needed(false_alarm_rate)} for a false-alarm rate of {false_alarm_rate:g}"
        )
    if not np.isfinite(scores).all():
        raise BadValue(
            f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} calibration scores are not finite; "
            "was the learning rate too high?"
        )

    allowed = math.floor(false_alarm_rate * (len(scores) + 1) + ROUNDING)
    if allowed == 0:
        logger.warning(
            "false-alarm rate %g is not supported by %d normal images (needs %d): scores rank images, and "
            "none is called anomalous; a larger --calibration-share or --false-alarm-rate helps",
            false_alarm_rate,
            len(scores),
            images_needed(false_alarm_rate),
        )
    highest_first = np.sort(scores)[::-1]
    return Threshold(
        value=float(highest_first[max(allowed, 1) - 1]),
        false_alarm_rate=false_alarm_rate,
        images=len(scores),
        supported=allowed > 0,
    )
