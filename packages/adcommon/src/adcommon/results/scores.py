"""scores.csv, beside the pictures of an evaluation: what each test image scored, read back."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from adcommon.errors import BadValue
from adcommon.io.text import csv_value

SCORES = "scores.csv"


@dataclass(frozen=True, slots=True)
class CategoryScores:
    """The test images of a category, in the order of their paths."""

    category: str
    images: tuple[str, ...]
    labels: Int64[np.ndarray, " images"]
    """0 normal, 1 anomalous."""
    scores: Float64[np.ndarray, " images"]


def read_scores(folder: Path) -> list[CategoryScores]:
    """What every scores.csv below a folder says; of none, nothing.

    Raises:
        BadValue: names a file that is none of an evaluation.
    """
    return [_read(file) for file in sorted(folder.rglob(SCORES))]


def _read(file: Path) -> CategoryScores:
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            found = [
                (
                    csv_value(line["image"]),
                    csv_value(line["category"]),
                    int(line["label"]),
                    float(line["score"]),
                )
                for line in csv.DictReader(opened)
            ]
        images, categories, labels, scores = zip(*sorted(found), strict=True)
        (category,) = set(categories)
    except (KeyError, TypeError, ValueError, csv.Error):
        raise BadValue(
            f"{file} is not the table of an evaluation: expected the columns image, category, label and "
            "score, and one category; evaluate again with --maps, or remove it"
        ) from None
    return CategoryScores(category, images, np.array(labels), np.array(scores))
