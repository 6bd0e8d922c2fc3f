from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.preprocess import Preprocess
from adcommon.results.drawing import covered, has_outline, write_pictures
from adcommon.results.pictures import FOUND, glow, heat_map, overlay

PREPROCESS = Preprocess(image_size=16)
MAP = np.random.default_rng(0).random((16, 16)).astype(np.float32)
IMAGE = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("colours", [(0.1, None, 0.9), (0.1, 1.5, 2.0), (0.5, None, 0.5)])
def test_a_map_scaled_at_its_own_size_is_drawn_as_one_scaled_at_the_pictures(colours) -> None:
    dark, _, bright = colours
    restored = PREPROCESS.restore(MAP[None], *IMAGE.shape[:2])[0]
    exact = overlay(IMAGE, heat_map(restored, dark, bright, colours=glow))
    if dark == bright:  # nothing to tell apart: the first colour
        exact = overlay(IMAGE, glow(np.zeros(IMAGE.shape[:2], np.uint8)))
    apart = np.abs(covered(IMAGE, MAP, PREPROCESS, colours).astype(int) - exact)
    assert apart.max() <= 4  # one step of colour, which rounding may take
    assert (apart > 0).mean() < 0.01


@pytest.mark.parametrize(("threshold", "outlined"), [(2.0, False), (0.5, True), (None, False)])
def test_what_rises_above_the_threshold_is_outlined(threshold: float | None, outlined: bool) -> None:
    colours = (0.0, threshold, 3.0)
    assert has_outline(MAP, colours) == outlined
    assert (covered(IMAGE, MAP, PREPROCESS, colours) == FOUND).all(axis=2).any() == outlined


@pytest.mark.parametrize(("lines", "halved"), [(True, False), (False, True)])
def test_lines_keep_their_colours_and_all_else_half_of_them(
    tmp_path: Path, lines: bool, halved: bool
) -> None:
    write_pictures(tmp_path, Path("a.jpg"), IMAGE, IMAGE, None, lines=lines)
    with Image.open(tmp_path / "a.jpg") as drawn:
        samplings = {(layer[1], layer[2]) for layer in drawn.layer}
    assert ((2, 2) in samplings) == halved
