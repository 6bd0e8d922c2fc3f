from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.check.looks import Look, MaskLook, look_at, suspicions
from adcommon.data.check.tree import Problem
from adcommon.io.images import open_image
from adcommon.types.records import Record

ORIENTATION = 0x0112


def look(
    folder: Path,
    pixels: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    label: int = 0,
    suffix: str = ".png",
    transparent: bool = False,
    mask_upright: bool | None = None,
    **options: object,
) -> Look:
    """The look at an image that is saved now, with its mask."""
    name = f"{len(list(folder.iterdir())):03}"
    Image.fromarray(pixels).save(folder / f"{name}{suffix}", **options)
    truth = None
    if mask is not None:
        truth, label = folder / f"{name}_mask.png", 1
        Image.fromarray(mask.astype(np.uint8) * 255).save(truth)
    record = Record(folder / f"{name}{suffix}", "part", label, "dent", truth, mask_upright)
    opened = np.asarray(open_image(record.image, upright=True))
    return look_at(record, opened, mask, lambda: transparent)


def noise(
    seed: int, shape: tuple[int, ...] = (20, 30, 3), dtype: type = np.uint8, high: int = 256
) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def square(height: int = 20, width: int = 30, inverted: bool = False) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[5:9, 7:12] = True
    return ~mask if inverted else mask


def problems(*looks: Look) -> list[Problem]:
    return list(suspicions(looks, "part"))


def only(*looks: Look) -> Problem:
    (found,) = problems(*looks)
    return found


def test_ordinary_images_and_masks_are_not_suspicious(tmp_path: Path) -> None:
    looks = [look(tmp_path, noise(seed)) for seed in range(3)]
    looks += [look(tmp_path, noise(9 + seed), mask=np.roll(square(), seed, axis=0)) for seed in range(3)]
    assert problems(*looks) == []
    assert problems() == []


@pytest.mark.parametrize(
    ("high", "is_dark"), [(4096, True), (1024, True), (8191, True), (16384, False), (65536, False)]
)
def test_images_of_16_bits_that_use_a_fraction_of_them(tmp_path: Path, high: int, is_dark: bool) -> None:
    looks = [look(tmp_path, noise(seed, (20, 30), np.uint16, high)) for seed in range(3)]
    found = problems(*looks, look(tmp_path, noise(0)))
    assert [problem.severity for problem in found] == ["warning"] * is_dark
    if is_dark:
        assert "--white 4095" in found[0].message
        assert len(found[0].paths) == 3


def test_a_dark_one_among_bright_ones_is_named(tmp_path: Path) -> None:
    bright = [look(tmp_path, noise(seed, (20, 30), np.uint16, 60000)) for seed in range(3)]
    dark = look(tmp_path, noise(7, (20, 30), np.uint16, 4096))
    assert only(*bright, dark).paths == (dark.record.image,)


def test_transparent_pixels_are_said(tmp_path: Path) -> None:
    clear = noise(0, (20, 30, 4))
    found = only(look(tmp_path, clear, transparent=True), look(tmp_path, noise(1)))
    assert found.message.startswith("1 images have transparent pixels")
    assert problems(look(tmp_path, clear)) == []
    assert problems(look(tmp_path, noise(1), transparent=True)) == []  # no alpha: nobody asks


def test_pages_are_counted(tmp_path: Path) -> None:
    more = [Image.fromarray(noise(seed)) for seed in (1, 2)]
    found = only(look(tmp_path, noise(0), suffix=".tif", save_all=True, append_images=more))
    assert "only the first is read" in found.message
    assert "3 pages" in found.details[0]


def test_pages_of_masks_are_counted_too(tmp_path: Path) -> None:
    plain = look(tmp_path, noise(0), mask=square())
    assert plain.record.mask is not None
    part = Image.fromarray(square().astype(np.uint8))
    part.save(plain.record.mask, format="TIFF", save_all=True, append_images=[part])
    again = look_at(plain.record, noise(0), square(), lambda: False)
    assert "_mask.png: 2 pages" in only(again).details[0]


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ([(6, "stored")], "drawn on stored photographs, which EXIF turns"),
        ([(6, "upright")], None),
        ([(6, "stored"), (6, "upright")], "the others on upright ones"),
        ([(3, "stored")], "fit their photographs as stored and as EXIF turns them"),
        ([(1, "stored")], None),
    ],
)
def test_masks_of_photographs_that_exif_turns(
    tmp_path: Path, masks: list[tuple[int, str]], words: str | None
) -> None:
    looks = []
    for seed, (orientation, drawn) in enumerate(masks):
        mask = square() if drawn == "stored" else square().T
        looks.append(look(tmp_path, noise(seed), mask=mask, exif=exif(orientation)))
    found = problems(*looks)
    assert len(found) == (words is not None)
    assert words is None or words in found[0].message


def test_a_settled_mask_of_a_half_turn_is_not_unknown(tmp_path: Path) -> None:
    assert problems(look(tmp_path, noise(0), mask=square(), exif=exif(3), mask_upright=True)) == []
    assert (
        "drawn on stored"
        in only(look(tmp_path, noise(1), mask=square(), exif=exif(3), mask_upright=False)).message
    )


@pytest.mark.parametrize(
    ("masks", "severity", "words"),
    [
        ([square(inverted=True)], "error", "inverted"),
        ([square(inverted=True), np.roll(square(inverted=True), 1)], "error", "inverted"),
        ([square(inverted=True), square()], "warning", "more than half"),
        ([np.ones((20, 30), bool), square()], "warning", "more than half"),
        ([np.zeros((20, 30), bool)] * 2, "error", "empty mask"),
        ([square()] * 3, "warning", "all the same"),
        ([square()] * 2, None, ""),
        ([np.zeros((20, 30), bool), square()], None, ""),
        ([np.ones((20, 30), bool), np.ones((20, 30), bool)], "warning", "more than half"),
    ],
)
def test_masks_that_are_hardly_meant(
    tmp_path: Path, masks: list[np.ndarray], severity: str | None, words: str
) -> None:
    found = problems(*(look(tmp_path, noise(seed), mask=mask) for seed, mask in enumerate(masks)))
    assert [problem.severity for problem in found] == ([] if severity is None else [severity])
    assert all(words in problem.message for problem in found)


def test_a_frame_is_no_inverted_mask() -> None:
    frame = ~np.pad(np.ones((18, 28), bool), 1)
    assert MaskLook.of((30, 20), frame).on_border
    assert not MaskLook.of((30, 20), frame).seems_inverted


@pytest.mark.parametrize(
    ("anomalous", "words"),
    [
        ({"suffix": ".bmp"}, "every normal image is PNG, every anomalous one BMP"),
        ({"pixels": noise(0, (20, 30))}, "every anomalous one grey PNG"),
        ({"pixels": noise(0, (24, 30, 3))}, "30x20, every anomalous one 30x24"),
        ({}, None),
    ],
)
def test_kinds_of_files_that_give_the_label_away(
    tmp_path: Path, anomalous: dict[str, object], words: str | None
) -> None:
    normal = [look(tmp_path, noise(seed)) for seed in range(2)]
    pixels = anomalous.pop("pixels", noise(5))
    bad = [look(tmp_path, pixels, label=1, **anomalous) for _ in range(2)]
    found = problems(*normal, *bad)
    assert len(found) == (words is not None)
    assert words is None or words in found[0].message
    assert problems(*normal, bad[0]) == []  # one alone is no rule
    assert (
        problems(*normal, *bad, look(tmp_path, noise(8), label=1), look(tmp_path, pixels, **anomalous)) == []
    )
