"""Where an anomaly map is high, as places with a size: for machines that act on it."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from adcommon.io.files import atomic_write, json_text
from adcommon.types.values import MapFormat


@dataclass(frozen=True, slots=True)
class Region:
    """Connected pixels of an image whose values are above a level."""

    x: int
    """Of the box around it: left edge, pixels from the image's left."""
    y: int
    """Upper edge, pixels from the top."""
    width: int
    height: int
    area: int
    """Pixels in it."""
    peak: float
    """Its highest value."""
    peak_x: int
    peak_y: int


def regions(anomaly_map: Float[np.ndarray, "height width"], level: float) -> list[Region]:
    """The regions above a level, the highest peak first; pixels that touch at an edge or a corner are one."""
    from scipy import ndimage

    labels, count = ndimage.label(anomaly_map > level, structure=np.ones((3, 3)))
    found = []
    numbers = range(1, count + 1)
    peaks = ndimage.maximum_position(anomaly_map, labels, numbers)
    areas = ndimage.sum_labels(np.ones_like(labels), labels, numbers)
    for (rows, columns), (y, x), area in zip(ndimage.find_objects(labels), peaks, areas, strict=True):
        box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        found.append(Region(*box, int(area), float(anomaly_map[y, x]), int(x), int(y)))
    return sorted(found, key=lambda region: -region.peak)


def write_map(
    anomaly_map: Float[np.ndarray, "height width"], file: Path, kind: MapFormat, level: float | None
) -> None:
    """Write `file`.npy or `file`.tiff, float32, and `file`.json: the regions above the level.

    Args:
        level: that hardly any good image reaches; None: it is not known, and neither are regions.
    """
    places = None if level is None else [asdict(region) for region in regions(anomaly_map, level)]
    content = io.BytesIO()
    if kind == "npy":
        np.save(content, anomaly_map.astype(np.float32))
    else:
        from PIL import Image

        Image.fromarray(anomaly_map.astype(np.float32)).save(content, format="TIFF")
    atomic_write(file.with_name(f"{file.name}.json"), json_text({"level": level, "regions": places}))
    atomic_write(file.with_name(f"{file.name}.{kind}"), content.getvalue())
