"""Pictures of anomaly maps and a table of scores, beside an evaluation."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float

from adcommon.data.preprocess import Preprocess
from adcommon.evaluation.collect import Scores
from adcommon.io.files import atomic_write, csv_text
from adcommon.results.drawing import Colours, draw, on_page, truth_of, write_pictures
from adcommon.results.gallery import write_gallery
from adcommon.results.picture_names import names_of
from adcommon.results.scores import SCORES
from adcommon.types.records import Record
from adcommon.types.threshold import Threshold

LONGEST_SIDE, LONGEST_SIDE_OF_TILED = 512, 2048
"""Of a picture, pixels; larger images are drawn smaller."""
_THREADS = 2


def write_maps(scores: Scores, folder: Path, threshold: Threshold | None = None) -> None:
    """Write every map over its image, `<defect>/<image>.jpg`, and two ways to read them, see `Drawing`.

    Colours compare within a category: they are anchored on the normal images of the threshold, or else range
    over all maps.

    Args:
        threshold: decides, if it is supported, and gives the colours.
    """
    if scores.anomaly_maps is None:
        return
    colours: Colours | None = None if threshold is None else threshold.colours
    if colours is None:
        low = min(float(anomaly_map.min()) for anomaly_map in scores.anomaly_maps)
        colours = low, None, max(float(anomaly_map.max()) for anomaly_map in scores.anomaly_maps)
    drawing = Drawing(scores.records, scores.preprocess, folder, colours)
    drawing.draw(range(len(scores.records)), scores.anomaly_maps)
    drawing.finish(scores.image_scores, threshold)


class Drawing:
    """The pictures of a category, drawn in any order, and at the end two ways to read them.

    `index.html` shows the pictures with the outlined truth, to sort, filter and try thresholds on;
    `scores.csv` has a line per image.
    """

    def __init__(
        self, records: Sequence[Record], preprocess: Preprocess, folder: Path, colours: Colours | None
    ) -> None:
        """Nothing is drawn yet.

        Args:
            colours: of all maps; None: each has its own.
        """
        self._records, self._preprocess = records, preprocess
        self._folder, self._colours = folder, colours
        self._names = names_of(records, ".jpg")

    def draw(self, places: Iterable[int], maps: Iterable[Float[np.ndarray, "_ _"]]) -> None:
        """Write the pictures of the images at these places."""
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._write, places, maps))

    def finish(self, image_scores: Float[np.ndarray, " images"], threshold: Threshold | None) -> None:
        """Write the page and the table of all images."""
        folder, decision = self._folder, None if threshold is None else threshold.decision
        images = []
        rows: list[list[object]] = [
            ["image", "category", "defect", "label", "score", "threshold", "decision"]
        ]
        for record, name, score in zip(self._records, self._names, image_scores.tolist(), strict=True):
            shown, anomalous = f"{record.defect}/{record.image.name}", record.label > 0
            has_truth = record.mask is not None
            images.append(on_page(folder, name, shown, score, anomalous=anomalous, truth=has_truth))
            decided = "unknown" if decision is None else "anomalous" if score > decision else "normal"
            rows.append(
                [record.image, record.category, record.defect, record.label, score, decision, decided]
            )
        atomic_write(folder / SCORES, csv_text(rows))
        title = f"{self._records[0].category}: {len(images)} test images"
        worth = "" if threshold is None else threshold.worth
        write_gallery(folder, images, title=title, threshold=decision, worth=worth, colours=self._colours)

    def _write(self, place: int, network_map: Float[np.ndarray, "map_height map_width"]) -> None:
        record, preprocess = self._records[place], self._preprocess
        longest = LONGEST_SIDE if preprocess.tile is None else LONGEST_SIDE_OF_TILED
        image, drawn = draw(record.image, network_map, preprocess, self._colours, longest_side=longest)
        truth = truth_of(record, preprocess, image.height, image.width)
        write_pictures(self._folder, self._names[place], image, drawn, truth)
