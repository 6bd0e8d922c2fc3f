"""What a prediction says to a person: what was found, what the decisions are worth, where everything is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adcommon.deploy.drift import drift
from adcommon.deploy.model import Model
from adcommon.deploy.rows import TABLE, Row
from adcommon.io.listing import describe
from adcommon.io.text import printable
from adcommon.results.gallery import PAGE

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a prediction left."""

    rows: Sequence[Row]
    """Of predictions.csv."""
    passed_over: Mapping[str, Sequence[Path]]
    """What lies in the folder and is no input, by the reason why; see `io.listing`."""
    asked: int
    """Images there are; more than rows where it was stopped."""

    @property
    def anomalous(self) -> int:
        """How many are."""
        return sum(row.decision == "anomalous" for row in self.rows)

    @property
    def unfamiliar(self) -> list[Row]:
        """Those that are not of the kind that the model knows: neither normal nor anomalous."""
        return [row for row in self.rows if row.decision == "unfamiliar"]

    @property
    def failed(self) -> list[Row]:
        """Those that could not be scored."""
        return [row for row in self.rows if row.error is not None]


def summary(predicted: Predicted, model: Model, out: Path) -> str:
    """For a person: what was found, worst first, what was not scored or not used, where everything is."""
    rows, failed, unfamiliar = predicted.rows, predicted.failed, predicted.unfamiliar
    ranked = sorted((row for row in rows if row.score is not None), key=lambda row: -(row.score or 0))
    if failed and not ranked and len(rows) == predicted.asked:
        return (
            f"none of {len(rows)} images could be scored: {failed[0].error}\nall reasons are in {out / TABLE}"
        )
    anomalous = predicted.anomalous
    said = f"{anomalous} anomalous, {len(ranked) - anomalous - len(unfamiliar)} normal"
    if model.threshold is None:
        said = f"{len(ranked)} scored; without a threshold (--threshold) none is called anomalous"
    if unfamiliar:
        said += f", {len(unfamiliar)} not of this kind"
    lines = [f"{len(rows)} images: {said}"]
    if len(rows) < predicted.asked:
        lines.append(
            f"stopped after {len(rows)} of {predicted.asked}; the same command with --resume goes on"
        )
    worst = [row for row in ranked if model.threshold is None or row.decision == "anomalous"]
    lines += _first([f"{row.score:.6g}  {printable(row.path)}" for row in worst])
    if unfamiliar:
        above = sum(model.threshold is not None and (row.score or 0) > model.threshold for row in unfamiliar)
        among = f" ({above} of them score above the threshold)" if above else ""
        lines.append(f"{len(unfamiliar)} not of the kind that the model knows, to be looked at{among}:")
        lines += _first([f"{printable(row.path)}: {row.unfamiliar}" for row in unfamiliar])
    if failed:
        lines.append(f"{len(failed)} could not be scored:")
        lines += _first([str(row.error) for row in failed])
    if unused := describe(predicted.passed_over):
        lines += ["not used:", *(f"  {line}" for line in unused.splitlines())]
    lines += worth_of(model)
    if (caution := drift_of(model, rows)) is not None:
        lines.append(f"caution: {caution}")
    if (page := out / "maps" / PAGE).exists():
        lines.append(f"look at {page}")
    return "\n".join([*lines, f"scores and decisions are in {out / TABLE}"])


def _first(lines: Sequence[str]) -> list[str]:
    """As many as one wants to read, and how many more there are."""
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"  {line}" for line in [*lines[:_SHOWN], *more]]


def drift_of(model: Model, rows: Sequence[Row]) -> str | None:
    """What is to be said where the images do not look like those that the threshold was chosen from."""
    scores = np.array([row.score for row in rows if row.score is not None], dtype=np.float64)
    return None if model.promise is None else drift(scores, model.promise)


def worth_of(model: Model) -> list[str]:
    """What the decisions are worth, or what there is to do to have some."""
    own, promise = model.calibration, model.promise
    if promise is not None:
        return [promise.worth]
    if model.threshold is not None:
        if own is None or not own.scores:
            return [f"anomalous: a score above {model.threshold:.6g}, which nothing is known of"]
        above = own.above(model.threshold)
        return [f"anomalous: a score above {model.threshold:.6g}, like {above} of {own.images} {own.what}"]
    if own is None:
        return [
            "no threshold is stored with this model: score normal images, and give --threshold a value that "
            "few of them exceed"
        ]
    return [f"{own.worth}; or give --threshold ({own.value:.6g} is the highest of their scores)"]
