import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from adcommon.io.headers import read_header, turn_image, turn_values
from adcommon.io.images import open_image

ORIENTATION = 0x0112


def with_orientation(path: Path, orientation: int, size: tuple[int, int] = (7, 5)) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation_and_sizes_are_known_without_decoding(
    tmp_path: Path, orientation: int, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_orientation(tmp_path / f"a{suffix}", orientation)
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).size
    Image.init()  # some of Pillow's plugins draw as they are imported
    monkeypatch.setattr(Image.Image, "load", None)
    found = read_header(path)
    assert found.orientation == (orientation if 1 <= orientation <= 8 else 1)
    assert (found.size, found.upright_size) == ((7, 5), expected)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_upright_already(tmp_path: Path, orientation: int, compression: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.arange(15, dtype=np.uint8).reshape(3, 5)
    Image.fromarray(stored).save(tmp_path / "a.tif", exif=exif, compression=compression)
    expected = turn_values(stored, orientation)
    found = read_header(tmp_path / "a.tif")
    assert (found.orientation, found.size) == (1, expected.shape[::-1])
    for upright in (False, True):
        opened = np.asarray(open_image(tmp_path / "a.tif", upright=upright))
        np.testing.assert_array_equal(opened[..., 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_values_are_turned_as_images_are_and_back(orientation: int) -> None:
    values = np.arange(15, dtype=np.uint8).reshape(3, 5)
    upright = turn_values(values, orientation)
    np.testing.assert_array_equal(upright, np.asarray(turn_image(Image.fromarray(values), orientation)))
    np.testing.assert_array_equal(turn_values(upright, orientation, back=True), values)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_exif_after_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    path = with_orientation(tmp_path / "a.png", 6)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    length = int.from_bytes(content[start : start + 4]) + 12
    moved = content[:start] + content[start + length : -12] + content[start : start + length] + content[-12:]
    path.write_bytes(moved)
    assert read_header(path).orientation == 6
    assert open_image(path, upright=True).size == (5, 7)


def test_damaged_exif_says_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    assert read_header(tmp_path / "a.jpg").orientation == 1
    assert open_image(tmp_path / "a.jpg", upright=True).size == (7, 5)


@pytest.mark.parametrize(("suffix", "pages"), [(".tif", 3), (".png", 3), (".webp", 3)])
def test_pages_and_frames_are_counted(tmp_path: Path, suffix: str, pages: int) -> None:
    first, *others = (Image.new("L", (4, 4), 80 * page) for page in range(pages))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=others)
    assert read_header(tmp_path / f"a{suffix}").pages == pages


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_kind_and_depth(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "grey16.png")
    Image.fromarray(np.zeros((4, 4), np.int32)).save(tmp_path / "int.tif")
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "alpha.png")
    Image.new("L", (4, 4)).save(tmp_path / "grey.jpg")
    (tmp_path / "colour16.png").write_bytes(png_of_16_bits(np.zeros((4, 4, 3), np.uint16)))
    found = {path.name: read_header(path) for path in tmp_path.iterdir()}
    assert {name: header.kind for name, header in found.items()} == {
        "grey16.png": "16-bit grey PNG",
        "int.tif": "16-bit grey TIFF",
        "alpha.png": "PNG",
        "grey.jpg": "grey JPEG",
        "colour16.png": "16-bit PNG",
    }
    assert {name for name, header in found.items() if header.is_deep} == {
        "grey16.png",
        "int.tif",
        "colour16.png",
    }
    assert {name for name, header in found.items() if header.has_alpha} == {"alpha.png"}
