"""The models of a comparison, measured alike on the same images, and the report on them."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from adcommon.data.lists.fewshot import draw_references
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.load import load
from adcommon.deploy.rows import listing_digest
from adcommon.errors import BadValue, UserError
from adcommon.evaluation.compare import Candidate, disagreement, recommend, table
from adcommon.io.files import atomic_write, json_text
from adcommon.io.model_folder import read_config
from adcommon.io.schema import build, read_json
from adcommon.results.comparison import Compared, Seen, write_comparison
from adcommon.results.drawing import alone, draw, truth_of
from adcommon.results.pictures import outline_png, write_jpeg
from adcommon.results.rows import read_results
from adcommon.results.tables import aligned, markdown
from adcommon.training.trials import Trial, cut_short
from adcommon.types.records import Record, Split
from adcommon.types.threshold import Threshold

COMPARED = "compared.json"
SIDE = 320
"""Longest side of a picture on the page, pixels."""
MOST_PICTURES = 200
"""Images of either kind on the page."""
_BATCH = 8
_UPRIGHT = Preprocess(upright=True)
"""How own images are loaded, whatever the method."""


def measured(trial: Trial) -> dict[str, Any] | None:
    """What `measure` wrote down of a method; None: it was not measured."""
    file = trial.folder / COMPARED
    return read_json(file) if file.exists() else None


def is_of(facts: Mapping[str, Any], split: Split) -> bool:
    """True if it was measured on these images, and they have not changed."""
    return bool(facts["images"] == _digest(split))


def _digest(split: Split) -> str:
    return listing_digest([record.image for record in (*split.train, *split.test)])


def measure(trial: Trial, split: Split, false_alarm_rate: float) -> None:
    """Score the test images with a trained model, draw some, and write down what came out.

    A few-shot model has the references of its own report: the first draw.
    """
    (config,) = trial.folder.glob("*/model/config.json")
    folder = config.parent
    references = None
    if read_config(folder)["setting"] == "few-shot":
        references = draw_references(split.train, _standard_row(trial.folder)["shots"], seed=0)
    model = load(folder, category=split.category, references=references)
    try:
        model.decide_at(false_alarm_rate)
    except BadValue:  # too few images: it ranks
        model.threshold = None
    shown = set(chosen(split.test))
    colours = None if model.calibration is None else model.calibration.colours
    scores: list[float] = []
    spent, paths = 0.0, [record.image for record in split.test]
    model.predict(paths[:_BATCH], batch_size=_BATCH)  # so that what is done once is not counted
    for first in range(0, len(paths), _BATCH):
        began = time.monotonic()
        results = list(model.stream(paths[first : first + _BATCH], batch_size=_BATCH))
        spent += time.monotonic() - began
        for place, result in enumerate(results, first):
            if result.score is None:
                raise UserError(str(result.error))
            scores.append(result.score)
            if place in shown and result.network_map is not None:
                _, drawn = draw(
                    paths[place], result.network_map, result.preprocess, colours, longest_side=SIDE
                )
                write_jpeg(trial.folder / "pictures" / f"{place:05d}.jpg", drawn)
    promise = model.promise
    facts = {
        "images": _digest(split),
        "scores": scores,
        "promise": None if promise is None else asdict(promise),
        "minutes": _standard_row(trial.folder)["seconds"] / 60,
        "milliseconds": 1000 * spent / len(paths),
        "megabytes": sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
        "cut_short": cut_short(trial) is not None,
        "model": str(folder),
    }
    atomic_write(trial.folder / COMPARED, json_text(facts))


def report(out: Path, methods: Sequence[str], split: Split, *, proxy: bool) -> str:
    """Write the page and the table; the table, the recommendation and the next command, for a terminal."""
    labels = np.array([record.label for record in split.test])
    stored = {method: read_json(out / method / COMPARED) for method in methods}
    candidates = [_candidate(method, out / method, facts) for method, facts in stored.items()]
    advice = recommend(candidates, labels, proxy=proxy)
    lines = table(candidates, labels)
    said = f"Use {advice.method}: {advice.reason}"
    atomic_write(out / "comparison.md", f"{said}\n\n{markdown(lines)}\n")
    page = write_comparison(
        out,
        _images(out, candidates, split.test, labels),
        lines,
        title=f"{split.category}: {len(methods)} methods, {len(split.train)} training images",
        recommendation=said,
        of=len(labels),
    )
    model = stored[advice.method]["model"]
    compared = read_config(Path(model))["setting"] == "few-shot"
    further = " --references NORMAL_IMAGES" if compared else ""
    return (
        f"{aligned(lines)}\n\n{said}\nlook at {page}\n"
        f"score images with: uv run ad predict IMAGES --model {shlex.quote(model)}{further}"
    )


def chosen(test: Sequence[Record]) -> list[int]:
    """Places of the test images on the page, evenly drawn of both kinds."""
    places: list[int] = []
    for label in (0, 1):
        kind = [place for place, record in enumerate(test) if record.label == label]
        places += kind[:: -(-len(kind) // MOST_PICTURES) or 1]
    return sorted(places)


def _standard_row(folder: Path) -> dict[str, Any]:
    return next(row for row in read_results(folder) if row["protocol"] == "standard")


def _candidate(method: str, folder: Path, facts: Mapping[str, Any]) -> Candidate:
    promise = facts["promise"]
    return Candidate(
        method=method,
        scores=np.array(facts["scores"], dtype=np.float64),
        row=_standard_row(folder),
        promise=None if promise is None else build(Threshold, promise, str(folder / COMPARED)),
        minutes=facts["minutes"],
        milliseconds=facts["milliseconds"],
        megabytes=facts["megabytes"],
        cut_short=facts["cut_short"],
    )


def _images(
    out: Path, candidates: Sequence[Candidate], test: Sequence[Record], labels: Int64[np.ndarray, " images"]
) -> list[Compared]:
    differing = disagreement(candidates)
    ranks = {each.method: each.scores.argsort().argsort() / len(labels) for each in candidates}
    images = []
    for place in chosen(test):
        record, name = test[place], f"{place:05d}.jpg"
        drawn = {each.method: f"{each.method}/pictures/{name}" for each in candidates}
        own, truth = out / "images" / name, out / "truth" / f"{place:05d}.png"
        if not own.exists():
            image = alone(record.image, _UPRIGHT, longest_side=SIDE)
            if (mask := truth_of(record, _UPRIGHT, image.height, image.width)) is not None:
                atomic_write(truth, outline_png(mask))
            write_jpeg(own, image)
        by = {
            each.method: Seen(
                float(ranks[each.method][place]),
                _decision(each, place),
                drawn[each.method] if (out / drawn[each.method]).exists() else None,
            )
            for each in candidates
        }
        shown = f"{record.defect}/{record.image.name}"
        images.append(
            Compared(
                shown,
                record.label > 0,
                f"images/{name}",
                None if record.mask is None else f"truth/{truth.name}",
                by,
                float(differing[place]),
            )
        )
    return images


def _decision(candidate: Candidate, place: int) -> str:
    if candidate.promise is None:
        return "unknown"
    return "anomalous" if candidate.scores[place] > candidate.promise.value else "normal"
