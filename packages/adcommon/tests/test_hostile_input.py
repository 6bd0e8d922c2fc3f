"""Random and malicious trees, lists and images: a clear error or a right result, never another exception."""

import io
import os
import pickle
import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcommon.data import load_splits
from adcommon.data.check.dataset import check
from adcommon.data.lists.fewshot import read_references
from adcommon.data.lists.manifest import read_manifest, read_records, write_manifest
from adcommon.data.loco import read_saturations
from adcommon.data.sources.cifar10 import read_batch
from adcommon.errors import DatasetNotFound, UserError
from adcommon.io.headers import read_header
from adcommon.io.images import image_size, list_images, open_image, open_mask
from adcommon.testing.trees import make_mvtec
from adcommon.types.records import Split
from inctrl.compat.fewshot_files import read_few_shot_file

FOLDERS = ["train", "test", "good", "ok", "ground_truth", "crack", "validation", "manifest.csv", "test.json"]
NASTY = st.sampled_from(
    [
        "a b",
        'it\'s "so"',
        "new\nline",
        "größe",
        "漢字",
        "-rf",
        "$HOME",
        "%s",
        "CON",
        ".hidden",
        " lead",
        "ü",
        "U\u0308",
        "a" * 200,
    ]
)
FILES = [".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".tiff", "_mask.png", ".csv", ".json", ".txt", ""]


def encoded(form: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).convert(mode).save(file, form, exif=exif)
    return file.getvalue()


MODES = {
    "PNG": ("RGB", "P", "L"),
    "JPEG": ("RGB", "CMYK"),
    "BMP": ("RGB", "1"),
    "TIFF": ("RGB", "L"),
    "WEBP": ("RGB",),
    "GIF": ("P",),
    "PPM": ("L",),
}
IMAGES = {(form, mode): encoded(form, mode) for form, modes in MODES.items() for mode in modes}
IMAGE = IMAGES["PNG", "RGB"]


def put(path: Path, kind: str, outside: Path) -> None:
    """Make one entry of a hostile tree; names that the file system refuses are left out."""
    contents = {
        "image": IMAGE,
        "truncated": IMAGE[:200],
        "empty": b"",
        "page": b"<!DOCTYPE html><html>404</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "text": b"image,label\n../../etc/passwd,0\n",
    }
    links = {"inside": path.parent, "outside": outside, "nowhere": outside / "nothing", "self": path}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind in contents:
            path.write_bytes(contents[kind])
        elif kind == "folder":
            path.mkdir(exist_ok=True)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(links[kind])
    except OSError:
        return


KINDS = ["image"] * 6 + ["truncated", "empty", "page", "pointer", "text", "folder", "pipe"]
KINDS += ["inside", "outside", "nowhere", "self"]
ENTRIES = st.lists(
    st.tuples(
        st.lists(st.one_of(st.sampled_from(FOLDERS), NASTY), max_size=4),
        st.one_of(st.sampled_from(["000", "001"]), NASTY),
        st.sampled_from(FILES),
        st.sampled_from(KINDS),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(entries=ENTRIES)
def test_any_tree_is_loaded_rightly_or_refused(
    tmp_path_factory: pytest.TempPathFactory, entries: list
) -> None:
    base = tmp_path_factory.mktemp("hostile")
    root, outside = base / "data", base / "outside"
    for folder in (root, outside / "train/good"):
        folder.mkdir(parents=True)
    put(outside / "train/good/000.png", "image", base)
    for folders, stem, suffix, kind in entries:
        put(root.joinpath(*folders, stem + suffix), kind, outside)
    try:
        problems = check("folder", root)
    except UserError:
        problems = None
    try:
        splits = load_splits("folder", root)
    except UserError:
        return
    assert problems is not None
    for category, split in splits.items():
        assert split.train or split.test
        assert not {record.image for record in split.train} & {record.image for record in split.test}
        for record in [*split.train, *split.test]:
            assert record.image.is_file()
            assert record.category == category
            assert record.label == (record.defect != "good")
            assert record.label == 0 or record in split.test
            assert record.mask is None or record.mask.exists()
        broken = [record.image for record in [*split.train, *split.test] if not readable(record.image)]
        reported = {path for problem in problems for path in problem.paths}
        assert set(broken) <= reported


def readable(path: Path) -> bool:
    try:
        open_image(path)
    except UserError:
        return False
    return True


def mutated(content: bytes, generator: random.Random) -> bytes:
    """The bytes with a few of them changed, cut out, doubled or replaced."""
    result = bytearray(content)
    for _ in range(generator.randint(1, 6)):
        start = generator.randrange(len(result) + 1)
        end = min(len(result), start + generator.randint(0, 12))
        result[start:end] = generator.choice(
            [
                b"",
                result[start:end] * 2,
                bytes([generator.randrange(256)]),
                b"../",
                b'"',
                b"\0",
                b"{",
                b"\xff\xff\xff\xff",
            ]
        )
    return bytes(result)


@settings(max_examples=200)
@given(image=st.sampled_from(sorted(IMAGES)), seed=st.integers(0, 2**32 - 1))
def test_any_damaged_image_is_decoded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, image: tuple[str, str], seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(mutated(IMAGES[image], random.Random(seed)))
    readers: list[Callable[[Path], object]] = [
        *(open_image, open_mask, image_size),
        partial(open_image, upright=True),
        read_header,
    ]
    for read in readers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(UserError):
                read(path)


def pickled_batch() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3072), dtype=np.uint8)
    return pickle.dumps({"labels": [0], "data": pixels}, protocol=2)


def few_shot_file(zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save([torch.zeros(3, 2, 2)], file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


SATURATION = {
    "defect_name": "pair",
    "pixel_value": 254,
    "saturation_threshold": 20,
    "relative_saturation": False,
}
BINARIES: list[tuple[Callable[[Path], object], bytes]] = [
    (read_batch, pickled_batch()),
    (read_few_shot_file, few_shot_file(zipped=True)),
    (read_few_shot_file, few_shot_file(zipped=False)),
    (
        read_saturations,
        b'[{"defect_name":"a","pixel_value":3,"saturation_threshold":1,"relative_saturation":true}]',
    ),
]


@settings(max_examples=150)
@given(binary=st.sampled_from(BINARIES), seed=st.integers(0, 2**32 - 1))
def test_any_damaged_file_of_others_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, binary: tuple[Callable[[Path], object], bytes], seed: int
) -> None:
    read, content = binary
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(mutated(content, random.Random(seed)))
    with suppress(UserError):
        read(path)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    tree = make_mvtec(folder / "data", size=8)
    splits: dict[str, Split] = load_splits("folder", tree)
    write_manifest("csv", folder / "csv", splits, tree)
    write_manifest("ader", folder / "ader", splits, tree)
    write_manifest("lines", folder / "lines", splits, tree)
    write_manifest("inctrl", folder / "inctrl", splits, tree)
    return folder


@settings(max_examples=150)
@given(form=st.sampled_from(["csv", "ader", "lines", "inctrl"]), seed=st.integers(0, 2**32 - 1))
def test_any_damaged_list_is_read_or_refused(lists: Path, form: str, seed: int) -> None:
    generator = random.Random(seed)
    victim = generator.choice(sorted((lists / form).iterdir()))
    original = victim.read_bytes()
    victim.write_bytes(mutated(original, generator))
    try:
        for split in read_manifest(lists / form, lists / "data").values():
            for record in [*split.train, *split.test]:
                assert record.image.is_file()
                assert record.image.resolve().is_relative_to(lists / "data")
                assert record.label in (0, 1)
        if form in ("lines", "inctrl"):
            read_records([victim], lists / "data")
    except UserError:
        pass
    finally:
        victim.write_bytes(original)


@settings(max_examples=60)
@given(
    content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
)
@pytest.mark.parametrize("name", ["manifest.csv", "meta.json", "train.json", "a_val_normal.json", "list.txt"])
def test_anything_at_all_in_place_of_a_list_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for other in (name, "test.json") if name == "train.json" else (name,):
        (folder / other).write_bytes(content)
    read: Callable[[], object] = partial(read_manifest, folder)
    if name == "list.txt":
        read = partial(read_references, folder / name, folder)
    with pytest.raises(UserError):
        read()


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_what_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    make_mvtec(tmp_path, categories=("nut",))
    good = tmp_path / "nut/train/good"
    for path, mode in ((good / "000.png", 0), (good, 0), (good, 0o400)):
        before = path.stat().st_mode
        path.chmod(mode)
        try:
            assert any(problem.severity == "error" for problem in check("folder", tmp_path))
        finally:
            path.chmod(before)


def test_a_folder_that_may_not_be_read_is_an_error_for_every_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mvtec(tmp_path, categories=("nut",))

    def refusing(listed: Callable) -> Callable:
        def refuse(folder: Path | str) -> object:
            if Path(folder).name == "good":
                raise PermissionError(13, "Permission denied", str(folder))
            return listed(folder)

        return refuse

    monkeypatch.setattr(Path, "iterdir", refusing(Path.iterdir))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))
    with pytest.raises(DatasetNotFound, match=r"cannot read the folder .*good: Permission denied"):
        list_images(tmp_path / "nut/train/good")
    with pytest.raises(DatasetNotFound, match="cannot read the folder"):
        load_splits("folder", tmp_path)
    assert "cannot read the folder" in str(check("folder", tmp_path)[0])
