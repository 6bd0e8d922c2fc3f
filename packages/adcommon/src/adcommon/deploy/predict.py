"""Images or a folder of them -> scores, decisions and pictures in files, with any model."""

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adcommon.deploy.inputs import find_images
from adcommon.deploy.model import Model, Result
from adcommon.io.files import atomic_write, csv_text
from adcommon.io.images import open_image
from adcommon.results.gallery import ScoredImage, write_gallery
from adcommon.results.pictures import glow, heat_map, overlay, png

logger = logging.getLogger(__name__)


def predict(
    model: Model,
    inputs: Path,
    out: Path,
    *,
    batch_size: int = 8,
    workers: int = 2,
    maps: bool = True,
) -> list[Result]:
    """Score an image, or every image in a folder at any depth, in the order of their paths.

    Writes `out`/predictions.csv and, for each image, its heat map over it at its own size: `out`/maps/
    repeats the folders of `inputs` and the full file names, and its index.html shows them all. An unreadable
    file becomes a row with an error.

    Args:
        inputs: folder or file; nothing below `out` is taken for an input.
        out: folder for everything that is written.
        batch_size: images scored at once.
        workers: threads that decode images, and as many that draw pictures, while the model works; 0 is 1.
        maps: write the pictures, if the method has anomaly maps.

    Returns:
        The rows of predictions.csv, without their maps.
    """
    paths = find_images(inputs, out)
    root = inputs if inputs.is_dir() else inputs.parent
    rows: list[Result] = []
    shown: list[ScoredImage] = []
    drawing: deque[Future[None]] = deque()
    results = model.stream(paths, batch_size=batch_size, workers=workers)
    progress = tqdm(results, desc="predicting", total=len(paths), unit="image", disable=None)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for path, result in zip(paths, progress, strict=True):
            if result.error is not None:
                logger.warning("skipping %s", result.error)
            rows.append(replace(result, network_map=None))
            if maps and result.score is not None and result.network_map is not None:
                name = path.relative_to(root)
                picture = name.with_name(f"{name.name}.png")
                shown.append(ScoredImage(name.as_posix(), result.score, None, picture.as_posix()))
                drawing.append(pool.submit(_draw, path, result, out / "maps" / picture))
            while len(drawing) > 2 * batch_size:
                drawing.popleft().result()
        for job in drawing:
            job.result()
    columns = ("path", "score", "threshold", "decision", "error")
    table = [[getattr(row, name) for name in columns] for row in rows]
    atomic_write(out / "predictions.csv", csv_text([columns, *table]))
    if shown:
        write_gallery(out / "maps", shown, title=f"{len(shown)} images of {root}", threshold=model.threshold)
    return rows


def summary(rows: Sequence[Result], out: Path) -> str:
    """For a person: how many images of each decision, what could not be read, where everything is."""
    counts = {decision: sum(row.decision == decision for row in rows) for decision in ("anomalous", "normal")}
    damaged = [row.error for row in rows if row.error is not None]
    scored = len(rows) - len(damaged)
    said = f"{counts['anomalous']} anomalous, {counts['normal']} normal"
    if scored > sum(counts.values()):
        said = f"{scored} scored; without a threshold (--threshold) none is called anomalous"
    lines = [f"{len(rows)} images: {said}"]
    if damaged:
        lines += [f"{len(damaged)} could not be scored:", *(f"  {error}" for error in damaged)]
    return "\n".join([*lines, f"scores and decisions are in {out / 'predictions.csv'}"])


def _draw(path: Path, result: Result, picture: Path) -> None:
    anomaly_map = result.anomaly_map
    assert anomaly_map is not None
    image = np.asarray(open_image(path, upright=result.preprocess.upright))
    atomic_write(picture, png(overlay(image, heat_map(anomaly_map, colours=glow))))
