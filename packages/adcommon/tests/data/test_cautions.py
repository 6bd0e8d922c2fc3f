from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.cautions import Cautions
from adcommon.data.preprocess import Preprocess

PLAIN = Preprocess(image_size=16)
GREY = np.full((20, 30), 100, dtype=np.uint8)


def said(cautions: Cautions, preprocess: Preprocess, path: Path) -> list[str]:
    return list(cautions.of(path, *preprocess.read(path)[:2]))


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


CASES = {
    "dark": (GREY.astype(np.uint16) * 16, {}, PLAIN, "--white 4095"),
    "bright": (GREY.astype(np.uint16) * 257, {}, PLAIN, None),
    "white is known": (GREY.astype(np.uint16) * 16, {}, Preprocess(image_size=16, white=4095), None),
    "cut": (GREY, {}, Preprocess(image_size=16, fit="short_side"), "33 % of each picture"),
    "lying": (GREY, {"exif": exif(6)}, PLAIN, "turned by EXIF"),
    "upright": (GREY, {"exif": exif(6)}, Preprocess(image_size=16, upright=True), None),
    "holes": (np.stack([GREY, GREY], -1), {}, PLAIN, "transparent pixels"),
    "pages": (GREY, {"save_all": True, "append_images": [Image.fromarray(GREY)]}, PLAIN, "2 pages"),
    "ordinary": (GREY, {}, PLAIN, None),
}


@pytest.mark.parametrize("name", CASES)
def test_each_thing_is_said_once(tmp_path: Path, name: str) -> None:
    pixels, options, preprocess, words = CASES[name]
    cautions, path = Cautions(preprocess), tmp_path / ("a.tif" if name == "pages" else "a.png")
    Image.fromarray(pixels).save(path, **options)
    first = said(cautions, preprocess, path)
    assert len(first) == (words is not None)
    assert words is None or words in first[0]
    assert said(cautions, preprocess, path) == []


def test_of_an_image_in_memory_only_its_size_is_known() -> None:
    preprocess = Preprocess(image_size=16, fit="short_side")
    pixels, size, _ = preprocess.read(Image.fromarray(GREY))
    assert len(list(Cautions(preprocess).of(None, pixels, size))) == 1
