import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from adcommon.data.leaks import (
    Fingerprint,
    find_copies,
    find_near_copies,
    fingerprint,
    listed,
    pixel_digest,
    refuse_leak,
    same_files,
)
from adcommon.errors import Leak

SIDE = 128


def product(seed: int) -> np.ndarray:
    """A photograph of a product that always lies in the same place: only noise and small things differ."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    shape = 90 + 80 * (x**2 + y**2 < 0.15) + 20 * np.sin(30 * x)
    coarse = generator.normal(0, 12, (16, 16))
    surface = np.asarray(
        Image.fromarray(coarse.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    )
    grey = (shape + surface + generator.normal(0, 3, (SIDE, SIDE))).clip(0, 255)
    return np.stack([grey, grey * 0.9, grey * 0.8], axis=-1).astype(np.uint8)


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def shrunk(pixels: np.ndarray) -> np.ndarray:
    small = Image.fromarray(pixels).resize((SIDE * 3 // 4,) * 2, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


NEARLY = {
    "JPEG 95": lambda pixels: compressed(pixels, 95),
    "JPEG 75": lambda pixels: compressed(pixels, 75),
    "brighter": lambda pixels: (pixels.astype(int) + 8).clip(0, 255).astype(np.uint8),
    "more contrast": lambda pixels: np.asarray(ImageEnhance.Contrast(Image.fromarray(pixels)).enhance(1.05)),
    "resized": shrunk,
    "one pixel": lambda pixels: np.where(np.arange(pixels.size).reshape(pixels.shape) == 5, 0, pixels).astype(
        np.uint8
    ),
}


def prints(*pixels: np.ndarray, name: str) -> list[Fingerprint]:
    return [fingerprint(Path(f"{name}{number}.png"), each) for number, each in enumerate(pixels)]


@pytest.mark.parametrize("change", NEARLY)
def test_a_copy_that_was_changed_a_little_is_found(change: str) -> None:
    known = prints(*map(product, range(20)), name="train")
    tested = prints(product(100), NEARLY[change](product(7)), name="test")
    assert find_copies(known, tested) == []
    assert find_near_copies(known, tested) == [(Path("test1.png"), Path("train7.png"))]


def test_other_photographs_of_one_product_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    known, tested = (prints(*map(product, seeds), name="a") for seeds in (range(40), range(100, 140)))
    assert find_near_copies(known, tested) == find_copies(known, tested) == []
    near = prints(NEARLY["JPEG 75"](product(33)), name="b")
    monkeypatch.setattr("adcommon.data.leaks._BLOCK_ROWS", 7)
    assert find_near_copies(known, near) == [(Path("b0.png"), Path("a33.png"))]


def test_images_without_contrast_are_copies_only_if_they_are_equal() -> None:
    flat = [np.full((8, 8, 3), value, dtype=np.uint8) for value in (10, 10, 11)]
    known, tested = prints(flat[0], name="a"), prints(*flat[1:], name="b")
    assert find_copies(known, tested) == [(Path("b0.png"), Path("a0.png"))]
    assert find_near_copies(known, tested) == []
    assert find_near_copies([], tested) == find_near_copies(known, []) == []


@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 6)), seed=st.integers(0, 9))
def test_digests_are_of_pixels_and_shape(shape: tuple[int, int], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert pixel_digest(pixels) == pixel_digest(np.asfortranarray(pixels))
    turned = pixels.reshape(shape[1], shape[0], 3)
    assert (pixel_digest(pixels) == pixel_digest(turned)) == (shape[0] == shape[1])


def test_files_are_compared_by_content(tmp_path: Path) -> None:
    for name, content in {"a": b"one", "b": b"two", "c": b"three", "d": b"one"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert same_files([a, b, c], [d]) == [(a, d)]
    assert same_files([a], [a]) == [(a, a)]
    assert same_files([b, c], [d]) == []


def test_a_leak_names_the_first_pairs_and_what_to_do() -> None:
    refuse_leak([], "images are bad", "Do something.")
    pairs = [(Path(f"test/{number}.png"), Path(f"train/{number}.png")) for number in range(7)]
    with pytest.raises(
        Leak, match=r"7 images are bad:\n  test/0.png = train/0.png\n(.|\n)*and 2 more\n  Do"
    ) as error:
        refuse_leak(pairs, "images are bad", "Do something.")
    assert str(error.value).endswith("Do something.")
    assert listed([(Path("a.png"), Path("a.png"))]) == "\n  a.png"
