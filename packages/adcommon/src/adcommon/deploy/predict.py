"""Images or a folder of them -> scores, decisions and pictures, with any detector."""

import csv
import io
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, EmptySplit, UserError
from adcommon.io.files import atomic_write
from adcommon.io.images import is_image, open_image
from adcommon.results.gallery import ScoredImage, write_gallery
from adcommon.results.pictures import glow, heat_map, overlay, png
from adcommon.types.prediction import Detector

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictedImage:
    """A row of predictions.csv."""

    path: Path
    score: float | None
    """Higher is more anomalous, no fixed range; None: there is an `error`."""
    threshold: float | None
    """What the score was compared with; None: no threshold is known."""
    decision: Literal["normal", "anomalous", "unknown"]
    """Anomalous if the score is greater than the threshold."""
    error: str | None = None


def predict(
    detector: Detector,
    inputs: Path,
    out: Path,
    *,
    threshold: float | None = None,
    batch_size: int = 8,
    workers: int = 0,
    maps: bool = True,
    map_range: tuple[float, float] | None = None,
) -> list[PredictedImage]:
    """Score an image, or every image in a folder at any depth, in the order of their paths.

    Writes `out`/predictions.csv and, for each image, its heat map over it at its own size: `out`/maps/
    repeats the folders of `inputs` and the full file names, and its index.html shows them all. An unreadable
    file becomes a row with an error.

    Args:
        detector: its `preprocess` says how images are opened.
        inputs: folder or file; nothing below `out` is taken for an input.
        out: folder for everything that is written.
        threshold: see `PredictedImage.decision`.
        batch_size: images scored at once.
        workers: threads that decode images and draw pictures while the detector works; 0 is 1.
        maps: write the pictures, if the method has anomaly maps.
        map_range: what the first and the last colour mean, so that colours compare between images; None: each
            map's own minimum and maximum.
    """
    paths = find_images(inputs, out)
    root = inputs if inputs.is_dir() else inputs.parent
    rows: list[PredictedImage] = []
    shown: list[ScoredImage] = []
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        tqdm(desc="predicting", total=len(paths), unit="image", disable=None) as progress,
    ):
        for chunk, decoded in _decoded(paths, detector.preprocess, batch_size, pool):
            scores, anomaly_maps = _score(detector, [d for d in decoded if not isinstance(d, str)])
            remaining = iter(zip(scores, anomaly_maps, strict=True))
            drawing = []
            for path, pixels in zip(chunk, decoded, strict=True):
                if isinstance(pixels, str):
                    logger.warning("skipping %s", pixels)
                    rows.append(PredictedImage(path, None, threshold, "unknown", pixels))
                    continue
                score, anomaly_map = next(remaining)
                rows.append(_decide(path, score, threshold))
                if maps and anomaly_map is not None and math.isfinite(score):
                    name = path.relative_to(root)
                    picture = name.with_name(f"{name.name}.png")
                    drawing.append(
                        pool.submit(
                            _draw, path, anomaly_map, detector.preprocess, out / "maps" / picture, map_range
                        )
                    )
                    shown.append(ScoredImage(name.as_posix(), score, None, picture.as_posix()))
            for job in drawing:
                job.result()
            progress.update(len(chunk))
    atomic_write(out / "predictions.csv", _csv(rows))
    if shown:
        write_gallery(out / "maps", shown, title=f"{len(shown)} images of {root}", threshold=threshold)
    return rows


def find_images(inputs: Path, out: Path | None = None) -> list[Path]:
    """The image at `inputs`, or all in that folder at any depth, sorted; what is below `out` is left out."""
    if not inputs.exists():
        raise BadValue(f"no image or folder at {inputs}; expected an image file or a folder of images")
    if inputs.is_file():
        return [inputs]
    written = None if out is None else out.resolve()
    found = sorted(
        path
        for path in inputs.rglob("*")
        if is_image(path) and not (written and path.resolve().is_relative_to(written))
    )
    if not found:
        raise EmptySplit(
            f"no images in {inputs} or its sub-folders; expected files such as part.png or part.jpg"
        )
    return found


def summary(rows: Sequence[PredictedImage], out: Path) -> str:
    """For a person: how many images of each decision, what could not be read, where everything is."""
    counts = {decision: sum(row.decision == decision for row in rows) for decision in ("anomalous", "normal")}
    damaged = [row.error for row in rows if row.error is not None]
    scored = len(rows) - len(damaged)
    undecided = scored - sum(counts.values())
    lines = [f"{len(rows)} images: {counts['anomalous']} anomalous, {counts['normal']} normal"]
    if undecided:
        lines = [
            f"{len(rows)} images: {scored} scored; without a threshold (--threshold) none is called anomalous"
        ]
    if damaged:
        lines += [f"{len(damaged)} could not be scored:", *(f"  {error}" for error in damaged)]
    return "\n".join([*lines, f"scores and decisions are in {out / 'predictions.csv'}"])


def _decoded(
    paths: Sequence[Path], preprocess: Preprocess, batch_size: int, pool: ThreadPoolExecutor
) -> Iterator[tuple[Sequence[Path], list[UInt8[np.ndarray, "size size 3"] | str]]]:
    """Chunks of paths with their pixels, or what is wrong with the file; one chunk is decoded ahead."""
    chunks = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    waiting = [pool.submit(_decode, path, preprocess) for path in chunks[0]]
    for number, chunk in enumerate(chunks):
        following = chunks[number + 1] if number + 1 < len(chunks) else []
        current, waiting = waiting, [pool.submit(_decode, path, preprocess) for path in following]
        yield chunk, [job.result() for job in current]


def _decode(path: Path, preprocess: Preprocess) -> UInt8[np.ndarray, "size size 3"] | str:
    try:
        return preprocess.pixels(path)
    except (UserError, OSError) as error:
        return str(error)


def _score(
    detector: Detector, pixels: Sequence[UInt8[np.ndarray, "size size 3"]]
) -> tuple[list[float], Sequence[Float[np.ndarray, "height width"] | None]]:
    """The score and the map, if there are maps, of each image."""
    if not pixels:
        return [], []
    prediction = detector.score(normalise(np.stack(pixels), detector.preprocess))
    scores = prediction.image_scores.tolist()
    if prediction.anomaly_maps is None:
        return scores, [None] * len(scores)
    return scores, list(prediction.anomaly_maps.float().cpu().numpy())


def _decide(path: Path, score: float, threshold: float | None) -> PredictedImage:
    if not math.isfinite(score):
        error = f"the detector's score of {path} is {score}; the model or its input is broken"
        logger.warning("%s", error)
        return PredictedImage(path, None, threshold, "unknown", error)
    if threshold is None:
        return PredictedImage(path, score, None, "unknown")
    return PredictedImage(path, score, threshold, "anomalous" if score > threshold else "normal")


def _draw(
    path: Path,
    anomaly_map: Float[np.ndarray, "height width"],
    preprocess: Preprocess,
    picture: Path,
    map_range: tuple[float, float] | None,
) -> None:
    image = np.asarray(open_image(path, upright=preprocess.upright))
    restored = preprocess.restore(anomaly_map[None], *image.shape[:2])[0]
    low, high = map_range or (None, None)
    atomic_write(picture, png(overlay(image, heat_map(restored, low, high, colours=glow))))


def _csv(rows: Sequence[PredictedImage]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(entry.name for entry in fields(PredictedImage))
    writer.writerows(astuple(row) for row in rows)
    return file.getvalue()
