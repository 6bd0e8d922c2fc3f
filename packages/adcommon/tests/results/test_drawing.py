from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.preprocess import Preprocess
from adcommon.results.drawing import Colours, covered, draw, write_pictures
from adcommon.results.pictures import FOUND, contour, glow, steps

PREPROCESS = Preprocess(image_size=16)
MAP = np.random.default_rng(0).random((16, 16)).astype(np.float32)
IMAGE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(70, 50), (900, 310)], ids=["small", "in bands"])
@pytest.mark.parametrize(
    "colours", [(0.1, None, 0.9), (0.1, 0.6, 0.9), (0.1, 1.5, 2.0), (0.5, None, 0.5), None]
)
def test_a_map_is_drawn_half_and_half_over_its_image(colours: Colours | None, size: tuple[int, int]) -> None:
    image = IMAGE.resize(size)
    restored = PREPROCESS.restore(MAP, image.height, image.width)
    dark, outlined, bright = colours or (float(MAP.min()), None, float(MAP.max()))
    shade = steps(restored, dark, bright) if bright > dark else np.uint8(0 * restored)
    mixed = (np.asarray(image).astype(int) + np.asarray(glow(shade))) // 2
    expected = Image.fromarray(mixed.astype(np.uint8))
    if outlined is not None:
        contour(expected, restored > outlined, FOUND)
    np.testing.assert_array_equal(covered(image, MAP, PREPROCESS, colours), expected)


@pytest.mark.parametrize(("threshold", "outlined"), [(2.0, False), (0.5, True), (None, False)])
def test_what_rises_above_the_threshold_is_outlined(threshold: float | None, outlined: bool) -> None:
    drawn = np.asarray(covered(IMAGE, MAP, PREPROCESS, (0.0, threshold, 3.0)))
    assert (drawn == FOUND).all(axis=2).any() == outlined


def test_a_grey_image_is_drawn_as_the_same_in_colour() -> None:
    grey = IMAGE.convert("L")
    drawn = [np.asarray(covered(image, MAP, PREPROCESS, None)) for image in (grey, grey.convert("RGB"))]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(("side", "halved"), [(383, False), (384, True)])
def test_lines_of_one_pixel_keep_their_colours(tmp_path: Path, side: int, halved: bool) -> None:
    image = IMAGE.resize((side, 500))
    write_pictures(tmp_path, Path("a.jpg"), image, image, None)
    with Image.open(tmp_path / "a.jpg") as drawn:
        samplings = {(layer[1], layer[2]) for layer in drawn.layer}
    assert ((2, 2) in samplings) == halved


def test_words_in_a_photograph_stay_there(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "photo.jpg", comment="whose it is")
    image, drawn = draw(tmp_path / "photo.jpg", MAP, PREPROCESS, None, longest_side=2048)
    write_pictures(tmp_path / "maps", Path("a.jpg"), image, drawn, None)
    written = [file.read_bytes() for file in (tmp_path / "maps").rglob("*.jpg")]
    assert len(written) == 3
    assert b"whose it is" in (tmp_path / "photo.jpg").read_bytes()
    assert not any(b"whose it is" in content for content in written)
