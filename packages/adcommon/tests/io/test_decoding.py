import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.errors import BadValue, UnreadableImage
from adcommon.io import decoding
from adcommon.io.decoding import FORMATS, allow_megapixels, header, max_megapixels, opened
from adcommon.io.headers import read_header
from adcommon.io.images import image_size, mask_values, open_image, open_mask


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test sets is undone."""
    monkeypatch.delenv(decoding.MAX_MEGAPIXELS_VARIABLE, raising=False)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


def noise(height: int = 10, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_every_listed_suffix_is_opened(tmp_path: Path, suffix: str) -> None:
    if FORMATS[suffix] == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise()).save(path, format=FORMATS[suffix])
    assert open_image(path).size == image_size(path) == (12, 10)
    other = path.rename(tmp_path / "named_wrongly.png")
    assert open_image(other).size == (12, 10)


@pytest.mark.parametrize("format", ["GIF", "ICO", "PPM", "TGA", "PCX", "SGI", "IM", "DDS", "JPEG2000", "EPS"])
def test_no_other_format_is_opened_under_a_listed_suffix(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*given: object, **more: object) -> None:
        raise AssertionError("a program was started")

    path = tmp_path / "a.png"
    Image.fromarray(noise(16, 16)).save(path, format=format)
    monkeypatch.setattr(subprocess, "check_call", called)
    monkeypatch.setattr(subprocess, "Popen", called)
    for reader in (open_image, open_mask, image_size, read_header):
        with pytest.raises(UnreadableImage, match=r"a\.png: it holds none of the formats"):
            reader(path)


@pytest.mark.parametrize(
    "raised",
    [
        subprocess.CalledProcessError(1, "gs"),
        MemoryError(),
        RecursionError("too deep"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        AttributeError("no such"),
        AssertionError("never"),
        OverflowError("large"),
        KeyError(7),
        ZeroDivisionError(),
        Image.DecompressionBombError("bomb"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_decoder_raises_is_an_unreadable_image(
    tmp_path: Path, raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise raised

    Image.fromarray(noise()).save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "_plugins", lambda: {"PNG": (fail, lambda prefix: True)})
    for reader in (open_image, mask_values, image_size):
        with pytest.raises(UnreadableImage, match=r"cannot read the image .*a\.png: ."):
            reader(tmp_path / "a.png")


def test_pictures_above_the_limit_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (30, 30)).save(path)
    content = path.read_bytes()
    head = b"IHDR" + struct.pack(">II", 30_000, 30_000) + content[24:29]
    path.write_bytes(content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:])
    monkeypatch.setattr(Image.Image, "load", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reader in (open_image, open_mask):
            with pytest.raises(
                UnreadableImage, match=r"30000x30000 are 900 .* 100; .*--max-megapixels 900 or"
            ):
                reader(path)
        assert image_size(path) == (30_000, 30_000)


def test_the_limit_can_be_raised_and_lowered_and_processes_inherit_it(tmp_path: Path) -> None:
    Image.new("L", (2000, 1001), 7).save(tmp_path / "a.png")
    allow_megapixels(2)
    with pytest.raises(UnreadableImage, match="--max-megapixels 3"):
        open_image(tmp_path / "a.png")
    allow_megapixels(3)
    assert open_image(tmp_path / "a.png").size == (2000, 1001)
    code = "from adcommon.io.decoding import max_megapixels; print(max_megapixels())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "3"


@pytest.mark.slow
def test_200_megapixels_are_read_where_the_limit_allows_it(tmp_path: Path) -> None:
    Image.new("L", (100_000, 2_000), 7).save(tmp_path / "scan.png", compress_level=1)
    allow_megapixels(200)
    assert open_image(tmp_path / "scan.png").size == (100_000, 2_000)


@pytest.mark.parametrize("said", ["", "0", "-1", "1.5", "many", "1e3", "٣"])
def test_a_limit_that_is_no_number_of_megapixels_is_refused(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv(decoding.MAX_MEGAPIXELS_VARIABLE, said)
    with pytest.raises(BadValue, match=r"AD_MAX_MEGAPIXELS is .*; expected a whole number"):
        max_megapixels()


def test_huge_pictures_are_for_one_thread_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_ONE_AT_A_TIME_PIXELS", 100)
    Image.fromarray(noise()).save(tmp_path / "a.png")
    inside: list[int] = []

    def hold() -> None:
        with opened(tmp_path / "a.png"):
            inside.append(1)
            time.sleep(0.01)
            assert len(inside) == 1
            inside.pop()

    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_does_not_wait_for_a_thread_it_lacks() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with decoding._one_at_a_time:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads
        child = os.fork()
    if child == 0:
        os._exit(0 if decoding._one_at_a_time.acquire(blocking=False) else 1)
    assert os.waitpid(child, 0)[1] == 0
    done.set()
    thread.join()


def test_files_are_closed(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with header(tmp_path / "a.png") as image:
            file = image.fp
        open_image(tmp_path / "a.png")
    assert file is not None
    assert file.closed
