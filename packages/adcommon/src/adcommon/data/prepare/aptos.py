"""APTOS 2019 from the Kaggle archive to ReContrast's one-class split, every image cropped to its fundus.

    <source>                                 <target>
      train.csv       id_code,diagnosis        train/NORMAL/<id>.png     1,000 of grade 0
      train_images/<id>.png                    test/NORMAL/<id>.png        805, the others of grade 0
                                               test/ABNORMAL/<id>.png    1,857 of grades 1 to 4

Only the labelled part is used. Source: ReContrast (arXiv 2306.02602).
"""

import csv
import random
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image
from scipy import ndimage

from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import Listing, find_level, refuse_missing
from adcommon.errors import BadValue, EmptySplit
from adcommon.io.images import open_image
from adcommon.types.values import Positive, Side

DARK = 30
"""Pixels whose three channels sum to no more than this are background."""

_ONE = 1 << 11
"""The weight 1 in OpenCV's fixed-point interpolation."""


@dataclass(frozen=True, kw_only=True)
class Aptos:
    """Fundus crops, and the split of ReContrast."""

    size: Side = 512
    """Side of the cropped images, pixels."""
    train_images: Positive = 1000
    """Normal images that train; the others test."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has train.csv, and may lie in `target`, where the authors put it."""
        root = find_level(source, "train.csv", "aptos")
        grades = _read_grades(root / "train.csv")
        normal = [name for name, grade in grades if grade == 0]
        abnormal = [name for name, grade in grades if grade > 0]
        if len(normal) <= self.train_images:
            expected = f"more than the {self.train_images} that train"
            raise EmptySplit(f"{root / 'train.csv'} has {len(normal)} normal images; expected {expected}")
        random.Random(1).shuffle(normal)  # Faithful: the authors' shuffle and seed.
        parts = {
            "train/NORMAL": normal[: self.train_images],
            "test/NORMAL": normal[self.train_images :],
            "test/ABNORMAL": abnormal,
        }
        listing = Listing(root / "train_images")
        steps = [
            Step(f"{folder}/{name}.png", image, partial(write_crop, size=self.size))
            for folder, names in parts.items()
            for name in names
            if (image := listing.find(f"{name}.png")) is not None
        ]
        refuse_missing(listing.missing, len(grades), "Unpack the whole archive of the competition there.")
        notes = ("cropped to the fundus and resized as ReContrast does", "normal images shuffled with seed 1")
        return Plan("aptos", root, target, steps, asdict(self), notes)


def write_crop(source: Path, target: Path, *, size: int) -> None:
    """Write the fundus crop of an image as PNG."""
    try:
        cropped = crop_fundus(np.asarray(open_image(source)), size)
    except BadValue as error:
        raise BadValue(f"{source}: {error}") from None
    Image.fromarray(cropped).save(target, format="PNG")


def crop_fundus(
    image: UInt8[np.ndarray, "height width 3"], size: int, *, margin: int = 5
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut out the square around the retina and resize it, bilinear without antialiasing.

    The retina is the largest 8-connected region of pixels that are not dark; the square is centred at its
    centroid, as wide as the longer side of its bounding box, plus a margin. Outside of the image it is black.

    Args:
        image: any size; the order of the channels does not matter.
        size: side of the result, pixels.
        margin: added on each side before the resize, pixels.

    Raises:
        BadValue: the image is dark everywhere.
    """
    bright = image.sum(axis=-1, dtype=np.int64) > DARK
    labels, count = ndimage.label(bright, np.ones((3, 3)))
    if count == 0:
        raise BadValue(
            f"no pixel is brighter than {DARK} (sum of the channels); expected a picture of a retina"
        )
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    rows, columns = np.nonzero(labels == largest)
    half = max(np.ptp(rows) + 1, np.ptp(columns) + 1) / 2
    # Faithful: corners are truncated towards zero, which shifts those outside the image by one pixel.
    top, left = int(rows.mean() - half) - margin, int(columns.mean() - half) - margin
    bottom, right = int(rows.mean() + half) + margin, int(columns.mean() + half) + margin
    return _resize(_crop(image, top, left, bottom, right), size)


def _crop(
    image: UInt8[np.ndarray, "height width 3"], top: int, left: int, bottom: int, right: int
) -> UInt8[np.ndarray, "rows columns 3"]:
    height, width = image.shape[:2]
    crop = np.zeros((bottom - top, right - left, 3), dtype=np.uint8)
    inside = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    y, x = max(-top, 0), max(-left, 0)
    crop[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return crop


def _resize(image: UInt8[np.ndarray, "height width 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Bilinear between the two nearest pixels, centres at halves, edges repeated.

    In OpenCV's fixed point, with its truncations, so that the bytes are those of the authors' preparation.
    """
    y0, y1, wy = _neighbours(image.shape[0], size)
    x0, x1, wx = _neighbours(image.shape[1], size)
    wide = image.astype(np.int64)
    across = (wide[:, x0] * (_ONE - wx)[:, None] + wide[:, x1] * wx[:, None]) >> 4
    above = (across[y0] * (_ONE - wy)[:, None, None]) >> 16
    below = (across[y1] * wy[:, None, None]) >> 16
    return ((above + below + 2) >> 2).astype(np.uint8)


def _neighbours(
    length: int, size: int
) -> tuple[Int64[np.ndarray, " size"], Int64[np.ndarray, " size"], Int64[np.ndarray, " size"]]:
    """For each of `size` new pixels of an axis: the two old ones around it, and the weight of the second."""
    centres = (np.arange(size) + 0.5) * (length / size) - 0.5
    first = np.floor(centres).astype(np.int64)
    weights = np.rint((centres - first) * _ONE).astype(np.int64)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), weights


def _read_grades(path: Path) -> list[tuple[str, int]]:
    """Names (without .png) and grades in the order of train.csv."""
    grades = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"id_code", "diagnosis"} <= set(reader.fieldnames or ()):
            raise BadValue(f"{path} has the columns {reader.fieldnames}; expected id_code and diagnosis")
        for row in reader:
            if row["diagnosis"] not in ("0", "1", "2", "3", "4"):
                raise BadValue(
                    f"{path}, line {reader.line_num}: diagnosis '{row['diagnosis']}'; expected 0 to 4"
                )
            grades.append((row["id_code"].removesuffix(".png"), int(row["diagnosis"])))
    return grades
