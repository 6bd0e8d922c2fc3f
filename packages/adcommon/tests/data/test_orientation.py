from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.orientation import settle_masks
from adcommon.types.records import Record, Split


def photograph(folder: Path, size: tuple[int, int], orientation: int, mask: tuple[int, int] | None) -> Record:
    """A photograph of a stored size, and its mask of a size of its own."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = f"{len(list(folder.iterdir())):03}"
    Image.new("L", size).save(folder / f"{name}.png", exif=exif)
    if mask is None:
        return Record(folder / f"{name}.png", "part", 0)
    Image.fromarray(np.ones(mask[::-1], np.uint8)).save(folder / f"{name}_mask.png")
    return Record(folder / f"{name}.png", "part", 1, "dent", folder / f"{name}_mask.png")


LYING, SQUARE = (30, 20), (20, 20)


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([(LYING, 6, LYING), (SQUARE, 6, SQUARE), (LYING, 3, LYING)], [None, False, False]),
        ([(LYING, 6, (20, 30)), (SQUARE, 6, SQUARE), (LYING, 3, LYING)], [None, True, True]),
        ([(LYING, 6, LYING), (LYING, 8, (20, 30)), (SQUARE, 5, SQUARE)], [None, None, None]),
        ([(SQUARE, 6, SQUARE), (LYING, 2, LYING)], [None, None]),
        ([(LYING, 6, LYING), (LYING, 1, LYING), (SQUARE, 1, SQUARE)], [None, None, None]),
    ],
    ids=["stored", "upright", "masks disagree", "none tells", "nothing turned"],
)
def test_masks_that_fit_both_ways_go_by_those_that_fit_one_way(
    tmp_path: Path,
    masks: list[tuple[tuple[int, int], int, tuple[int, int]]],
    expected: list[bool | None],
) -> None:
    normal = photograph(tmp_path, LYING, 6, None)
    test = [normal, *(photograph(tmp_path, *given) for given in masks)]
    settled = settle_masks(Split([normal], test))
    assert [record.mask_upright for record in settled.test] == [None, *expected]
    assert [record.image for record in settled.test] == [record.image for record in test]


def test_files_that_cannot_be_read_are_left_to_those_who_decode_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    split = Split([], [Record(tmp_path / "a.png", "part", 1, mask=tmp_path / "gone.png")])
    assert settle_masks(split) == split
