from pathlib import Path

import numpy as np
from PIL import Image

from inctrl.winclip.tiles import cut, tile_boxes


def test_tiles_run_along_the_longer_side_and_cover_it() -> None:
    assert tile_boxes(512, 512) == []
    assert tile_boxes(1000, 600) == [(0, 0, 600, 600), (400, 0, 1000, 600), (400, 0, 1000, 600)]
    assert tile_boxes(480, 640) == [(0, 0, 480, 480), (0, 160, 480, 640)]
    assert tile_boxes(480, 640, "reference") == [(0, 0, 480, 480), (160, 0, 640, 480)]


def test_a_wide_image_becomes_several_square_ones(tmp_path: Path) -> None:
    pixels = np.zeros((20, 50), dtype=np.uint8)
    pixels[:, 30:] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    tiles, boxes = cut(tmp_path / "wide.png", 20)
    assert tiles.shape == (len(boxes), 20, 20, 3)
    for tile, (left, _, right, _) in zip(tiles, boxes, strict=True):
        assert (tile[..., 0] == pixels[:, left:right]).all()
