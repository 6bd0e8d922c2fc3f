"""Where an anomaly map is high, as places with a size: for machines that act on it."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

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
    width = anomaly_map.shape[1]
    above = np.zeros((len(anomaly_map), width + 2), dtype=np.int8)
    above[:, 1:-1] = anomaly_map > level
    turns = np.diff(above, axis=1)
    rows, starts = np.nonzero(turns == 1)  # runs of pixels, row by row
    stops = np.nonzero(turns == -1)[1]
    numbers = _joined(rows, starts, stops, width)
    found = []
    order = np.argsort(numbers, kind="stable")
    for runs in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else ():
        highest: list[tuple[float, int, int]] = []
        for row, start, stop in zip(rows[runs], starts[runs], stops[runs], strict=True):
            place = int(start + anomaly_map[row, start:stop].argmax())
            highest.append((float(anomaly_map[row, place]), int(row), place))
        peak, peak_y, peak_x = max(highest, key=lambda one: one[0])
        x, y = int(starts[runs].min()), int(rows[runs[0]])
        box = (x, y, int(stops[runs].max()) - x, int(rows[runs[-1]]) + 1 - y)
        found.append(Region(*box, int((stops[runs] - starts[runs]).sum()), peak, peak_x, peak_y))
    return sorted(found, key=lambda region: -region.peak)


def _joined(
    rows: Int64[np.ndarray, " runs"],
    starts: Int64[np.ndarray, " runs"],
    stops: Int64[np.ndarray, " runs"],
    width: int,
) -> Int64[np.ndarray, " runs"]:
    """A number for each run of pixels, the same for runs that touch, also through others."""
    # One axis for all rows: a run touches those of the row above that begin before it has ended, and end
    # behind its beginning; corners count.
    above = (rows - 1) * (width + 2)
    first = np.searchsorted(rows * (width + 2) + stops, above + starts, side="left")
    end = np.searchsorted(rows * (width + 2) + starts, above + stops, side="right")
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    for run, (low, high) in enumerate(zip(first.tolist(), end.tolist(), strict=True)):
        for other in range(low, high):
            one, two = root(run), root(other)
            parents[max(one, two)] = min(one, two)
    return np.array([root(run) for run in range(len(rows))], dtype=np.int64)


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
