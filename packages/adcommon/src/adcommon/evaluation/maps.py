"""Pictures of anomaly maps and a table of scores, beside an evaluation."""

from pathlib import Path

import numpy as np

from adcommon.evaluation.collect import Scores
from adcommon.io.files import atomic_write, csv_text
from adcommon.results.gallery import ScoredImage, write_gallery
from adcommon.results.picture_names import names_of
from adcommon.results.pictures import panel, png


def write_maps(scores: Scores, folder: Path, threshold: float | None = None) -> None:
    """Write a panel per image, `<defect>/<image>.png`: image, truth, map, overlay; and two ways to read them.

    `index.html` shows the panels, to sort, filter and try thresholds on; `scores.csv` has a line per image.
    Colours compare within a category: the map's range is that of all its images.

    Args:
        threshold: decision threshold of the image score, shown beside it.
    """
    if scores.anomaly_maps is None:
        return
    low = min(float(anomaly_map.min()) for anomaly_map in scores.anomaly_maps)
    high = max(float(anomaly_map.max()) for anomaly_map in scores.anomaly_maps)
    images = []
    rows: list[list[object]] = [["image", "category", "defect", "label", "score", "threshold", "decision"]]
    names = names_of(scores.records)
    for record, name, score, anomaly_map in zip(
        scores.records, names, scores.image_scores.tolist(), scores.anomaly_maps, strict=True
    ):
        image = scores.preprocess.pixels(record.image)
        if image.shape[:2] != anomaly_map.shape:  # of tiles
            height, width = anomaly_map.shape
            image = np.asarray(scores.preprocess.original(record.image).resize((width, height)))
        mask = None if record.mask is None else scores.preprocess.mask(record)
        picture = panel(image, mask, anomaly_map, score=score, threshold=threshold, low=low, high=high)
        atomic_write(folder / name, png(picture))
        shown = f"{record.defect}/{record.image.name}"
        images.append(ScoredImage(shown, score, record.label > 0, name.as_posix()))
        decision = "unknown" if threshold is None else "anomalous" if score > threshold else "normal"
        rows.append([record.image, record.category, record.defect, record.label, score, threshold, decision])
    atomic_write(folder / "scores.csv", csv_text(rows))
    title = f"{scores.records[0].category}: {len(images)} test images"
    write_gallery(folder, images, title=title, threshold=threshold)
