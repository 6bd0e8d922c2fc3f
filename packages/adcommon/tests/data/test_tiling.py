"""Photographs cut into tiles: nothing is left out, nothing shows where one ends, and each is decoded once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import adcommon.data.preprocess
from adcommon.data.loading import AnomalyDataset, cut
from adcommon.data.preprocess import Preprocess
from adcommon.data.tiling import boxes, canvas, joined
from adcommon.errors import BadValue
from adcommon.io.cache import DiskCache
from adcommon.types.records import Record

sides = st.integers(1, 90)


@given(width=sides, height=sides, tile=sides, overlap=st.integers(0, 40))
def test_tiles_cover_a_photograph_and_share_what_was_asked_for(width, height, tile, overlap) -> None:
    places = boxes(width, height, tile, overlap)
    seen = np.zeros((height, width), dtype=int)
    for left, top, right, bottom in places:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen[top:bottom, left:right] += 1
    assert seen.min() == 1 or len(places) > 1
    assert seen.all()
    if tile >= max(width, height):
        assert places == [(0, 0, width, height)]
        return
    side = min(tile, width, height)
    assert {(right - left, bottom - top) for left, top, right, bottom in places} == {(side, side)}
    for start, end in ((0, 2), (1, 3)):
        starts = sorted({box[start] for box in places})
        ends = sorted({box[end] for box in places})
        assert all(
            before - after >= min(overlap, side - 1)
            for before, after in zip(ends[:-1], starts[1:], strict=True)
        )


@given(
    width=st.integers(20, 90),
    height=st.integers(20, 90),
    tile=st.integers(8, 40),
    overlap=st.integers(0, 7),
    size=st.integers(4, 50),
)
def test_where_tiles_end_nothing_shows(width, height, tile, overlap, size) -> None:
    """What rises evenly over the photograph rises evenly over the map that is joined of its tiles."""
    places = boxes(width, height, tile, overlap)
    if len(places) == 1:
        return
    scale = size / (places[0][2] - places[0][0])
    centres = (np.arange(size) + 0.5) / scale
    maps = np.stack([left + centres[None] + 2 * (top + centres[:, None]) for left, top, *_ in places])
    whole = joined(maps, places, overlap)
    assert whole.shape == canvas(places, size)[::-1]
    down, across = ((np.arange(count) + 0.5) / scale for count in whole.shape)
    # Tiles are put on whole pixels of the map: at most half of one away from where they are.
    assert np.abs(whole - across - 2 * down[:, None]).max() <= 3 * 0.5 / scale + 1e-3


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)).save(path)
    return path


def test_a_tile_is_what_the_network_would_see_of_a_photograph_of_it_alone(photo: Path) -> None:
    preprocess = Preprocess(image_size=16, tile=40, overlap=10)
    tiles, size, _ = preprocess.read(photo)
    places = preprocess.boxes(*size)
    assert (size, len(places)) == ((100, 60), 6)
    alone = Preprocess(image_size=16)
    with Image.open(photo) as image:
        for tile, box in zip(tiles, places, strict=True):
            np.testing.assert_array_equal(tile, alone.pixels(image.crop(box)))


def test_a_tile_as_large_as_the_photograph_changes_nothing(photo: Path, tmp_path: Path) -> None:
    whole, cut_whole = Preprocess(image_size=16), Preprocess(image_size=16, tile=100)
    (tile,), size, _ = cut_whole.read(photo)
    np.testing.assert_array_equal(tile, whole.pixels(photo))
    maps = np.random.default_rng(1).random((1, 16, 16))
    joined_map = cut_whole.join(maps, *size)
    np.testing.assert_array_equal(cut_whole.restore(joined_map, 60, 100), whole.restore(maps[0], 60, 100))
    mask = tmp_path / "mask.png"
    Image.fromarray(np.eye(60, 100, dtype=np.uint8) * 255).save(mask)
    record = Record(photo, "part", 1, "scratch", mask)
    np.testing.assert_array_equal(cut_whole.mask(record), whole.mask(record))
    assert cut_whole.mask(replace(record, mask=None)).shape == (16, 16)


def test_a_joined_map_and_the_mask_lie_on_the_photograph(photo: Path, tmp_path: Path) -> None:
    preprocess = Preprocess(image_size=20, tile=40)
    truth = np.zeros((60, 100), dtype=np.uint8)
    truth[40:50, 70:76] = 255
    mask = tmp_path / "mask.png"
    Image.fromarray(truth).save(mask)
    small = preprocess.mask(Record(photo, "part", 1, "spot", mask))
    assert small.shape[::-1] == preprocess.map_size(100, 60) == (50, 30)
    restored = preprocess.restore(small.astype(np.float32), 60, 100)
    np.testing.assert_array_equal(restored > 0.5, truth > 0)
    assert preprocess.mask(Record(photo, "part", 0)).shape == small.shape


@pytest.mark.parametrize("kept", ["memory", "cache", "nothing"])
def test_photographs_are_decoded_once_for_all_of_their_tiles(photo, kept, tmp_path, monkeypatch) -> None:
    opened: list[Path] = []
    picture = adcommon.data.preprocess.picture
    monkeypatch.setattr(
        adcommon.data.preprocess,
        "picture",
        lambda source, **how: opened.append(source) or picture(source, **how),
    )
    other = tmp_path / "other.png"
    Image.open(photo).rotate(180).save(other)
    preprocess = Preprocess(image_size=16, tile=40, overlap=10)
    records = cut([Record(photo, "part", 0), Record(other, "part", 0)], preprocess)
    dataset = AnomalyDataset(
        records,
        preprocess,
        DiskCache(tmp_path / "cache") if kept == "cache" else None,
        memory_bytes=2**20 if kept == "memory" else 0,
    )
    order = range(12) if kept == "nothing" else np.random.default_rng(0).permutation(12).tolist()
    tiles = np.stack([dataset.batch([place]).images[0] for place in order])
    assert sorted(opened) == sorted([photo, other])
    by_place = AnomalyDataset(records, preprocess).batch(list(order)).images
    np.testing.assert_array_equal(tiles, by_place)
    assert len({dataset.content_key(place) for place in range(12)}) == 12


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"overlap": 4}, "give their side too"),
        ({"tile": 8, "overlap": 8}, "less than --tile, 8 pixels"),
        ({"tile": 64, "crop_size": 12}, "expected 16, which is --image-size"),
    ],
)
def test_tiles_that_cannot_be_are_refused(values: dict[str, int], words: str) -> None:
    with pytest.raises(BadValue, match=words):
        Preprocess(image_size=16, **values)


def test_references_of_several_sizes_are_refused(photo: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    Image.new("RGB", (50, 40)).save(small)
    preprocess = Preprocess(image_size=16, tile=40)
    assert preprocess.tiles_of_all([photo, photo]) == 6
    with pytest.raises(BadValue, match=r"100x60 pixels, .* has 50x40"):
        preprocess.tiles_of_all([photo, small])
