"""Several models on the same test images: the best, those that cannot be told from it, and their costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from adcommon.metrics import auroc_difference_interval
from adcommon.results.tables import Table, percent
from adcommon.results.words import INTERVAL, METRICS
from adcommon.types.threshold import Threshold

FAR_FASTER = 2.0
"""Times, at which speed counts more than a difference that may be chance."""
_SHOWN = ("image_auroc", "image_ap", "pixel_auroc", "aupro")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that was trained and measured for the comparison."""

    method: str
    scores: Float[np.ndarray, " images"]
    """Of the test images."""
    row: Mapping[str, Any]
    """Its standard row of results.json."""
    promise: Threshold | None
    """Of its decisions; None: it ranks images, and decides nothing."""
    minutes: float
    """From the start of its command to the report."""
    milliseconds: float
    """To decode and to score an image, here, one after another in batches."""
    megabytes: float
    """Of its model folder."""
    cut_short: bool
    """The training had no time for all its steps."""

    @property
    def auroc(self) -> float:
        """Image AUROC."""
        return float(self.row["image_auroc"])

    def above(self, labels: Int64[np.ndarray, " images"], label: int) -> str:
        """How many of the images with a label are called anomalous."""
        chosen = self.scores[labels == label]
        if self.promise is None:
            return "ranks only"
        return f"{np.count_nonzero(chosen > self.promise.value)} of {len(chosen)}"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Which model to use, and why."""

    method: str
    equals: tuple[str, ...]
    """All that cannot be told from the best one, itself among them."""
    reason: str


def recommend(
    candidates: Sequence[Candidate], labels: Int64[np.ndarray, " images"], *, proxy: bool = False
) -> Recommendation:
    """Which model to use: of those that cannot be told from the best, one that decides, if there is one.

    Two can be told apart by image AUROC if the 95 % interval of their difference, over paired bootstrap draws
    of the test images, does not hold zero. Of several that cannot, the one with the highest AUROC is taken,
    unless another is far faster.

    Args:
        labels: of the test images, both kinds.
        proxy: the defects were made for the comparison.
    """
    best = max(candidates, key=lambda candidate: candidate.auroc)
    equals = []
    for candidate in candidates:
        ends = auroc_difference_interval(best.scores, candidate.scores, labels)
        if ends is None or ends[0] <= 0:
            equals.append(candidate)
    deciding = [candidate for candidate in equals if candidate.promise is not None] or equals
    highest = max(deciding, key=lambda candidate: candidate.auroc)
    fastest = min(deciding, key=lambda candidate: candidate.milliseconds)
    times = highest.milliseconds / fastest.milliseconds
    chosen = fastest if times >= FAR_FASTER else highest
    images = f"{len(labels)} {'images, half of them with pasted defects' if proxy else 'test images'}"
    if len(candidates) == 1:
        reason = f"no other method was measured on the {images}"
    elif len(equals) == 1:
        reason = f"{best.method} is better than every other on {images}"
    else:
        names = [candidate.method for candidate in equals]
        reason = (
            f"{', '.join(names[:-1])} and {names[-1]} cannot be told apart on {images}; {chosen.method} is "
        )
        reason += (
            f"{times:.1f} times faster than {highest.method}"
            if chosen is not highest
            else "the first of them"
        )
        if len(deciding) < len(equals):
            reason += ", and has a threshold, which not all of them have"
    if proxy:
        reason += ". Pasted pieces stand in for real defects: a few photographs of those would say more"
    return Recommendation(chosen.method, tuple(candidate.method for candidate in equals), reason + ".")


def table(candidates: Sequence[Candidate], labels: Int64[np.ndarray, " images"]) -> Table:
    """A line for each model, the best image AUROC first."""
    measured = [name for name in _SHOWN if any(each.row.get(name) is not None for each in candidates)]
    header = ["method", METRICS["image_auroc"], INTERVAL, *(METRICS[name] for name in measured[1:])]
    header += ["detected", "false alarms", "ms per image", "model, MB", "training, min"]
    lines = [header]
    for each in sorted(candidates, key=lambda candidate: -candidate.auroc):
        low, high = (percent(each.row.get(f"image_auroc_{end}")) for end in ("low", "high"))
        lines.append(
            [
                each.method,
                percent(each.auroc),
                f"{low} to {high}",
                *(percent(each.row.get(name)) for name in measured[1:]),
                each.above(labels, 1),
                each.above(labels, 0),
                f"{each.milliseconds:.0f}",
                f"{each.megabytes:.1f}",
                f"{each.minutes:.1f}" + (" (cut short)" if each.cut_short else ""),
            ]
        )
    notes = []
    if any(each.cut_short for each in candidates):
        notes.append("Cut short: the training ended before its last step; more --minutes may make it better.")
    if any(each.promise is None for each in candidates):
        notes.append("Ranks only: too few normal images for a threshold at the false-alarm rate asked for.")
    return Table("comparison, percent", lines, notes)


def disagreement(candidates: Sequence[Candidate]) -> Float[np.ndarray, " images"]:
    """How differently the models rank an image: the range of its relative ranks, in [0, 1]."""
    count = len(candidates[0].scores)
    ranks = [candidate.scores.argsort().argsort() / max(1, count - 1) for candidate in candidates]
    return np.ptp(np.stack(ranks), axis=0)
