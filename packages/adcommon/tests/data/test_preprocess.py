import json
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcommon.data.loading import AnomalyDataset
from adcommon.data.normalise import normalise, unnormalise
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, MaskSizeMismatch
from adcommon.io.headers import turn_values
from adcommon.types.records import Record


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


class Golden:
    """preprocess.npz of the authors' implementation, and what meta.json says of it."""

    def __init__(self, folder: Path) -> None:
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())["files"]["preprocess"]
        self.arrays = np.load(folder / "preprocess.npz")
        self.normalisation = {name: tuple(self.meta["normalize"][name]) for name in ("mean", "std")}

    def assert_close(self, got: np.ndarray, name: str) -> None:
        tolerance = next(entry for pattern, entry in self.meta["tolerance"].items() if fnmatch(name, pattern))
        expected = self.arrays[name].astype(np.float64)
        np.testing.assert_allclose(
            got, expected, rtol=tolerance["rtol"], atol=tolerance["atol"], err_msg=name
        )


@pytest.fixture(scope="module")
def golden(golden_root: Path) -> Golden:
    return Golden(golden_root / "recontrast")


def test_images_and_masks_equal_the_reference(golden: Golden, tmp_path: Path) -> None:
    image = save(tmp_path / "image.png", golden.arrays["image"])
    mask = save(tmp_path / "mask.png", golden.arrays["mask"])
    assert golden.meta["mask_threshold"] == 0
    for case in golden.meta["cases"]:
        preprocess = Preprocess(
            image_size=case["resize"], crop_size=case["crop"], mask_rule="any", **golden.normalisation
        )
        images = normalise(preprocess.pixels(image)[None], preprocess)
        golden.assert_close(images[0].numpy(), case["tensor"])
        golden.assert_close(preprocess.mask(Record(image, "part", 1, mask=mask))[None], case["mask_bool"])
        touched = golden.arrays[case["mask_tensor"]] > golden.meta["mask_threshold"]
        assert (preprocess.mask(Record(image, "part", 1, mask=mask)) == touched[0]).all()


def test_grey_images_equal_the_reference(golden: Golden, tmp_path: Path) -> None:
    for case in golden.meta["gray"]:
        image = save(tmp_path / "grey.png", golden.arrays["image"][..., case["channel"]])
        preprocess = Preprocess(image_size=case["resize"], crop_size=case["crop"], **golden.normalisation)
        golden.assert_close(normalise(preprocess.pixels(image)[None], preprocess)[0].numpy(), case["tensor"])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A 60x40 image of smooth colour, and its mask with a blob and a single pixel."""
    rows, columns = np.mgrid[:40, :60]
    image = np.stack([rows * 6, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:20, 30:44] = 3
    mask[35, 5] = 1
    return save(tmp_path / "image.png", image), save(tmp_path / "mask.png", mask)


def test_short_side_keeps_the_proportions(pair: tuple[Path, Path]) -> None:
    image, _ = pair
    preprocess = Preprocess(image_size=20, fit="short_side")
    expected = Image.open(image).resize((30, 20), Image.Resampling.BILINEAR).crop((5, 0, 25, 20))
    assert (preprocess.pixels(image) == np.asarray(expected)).all()


@pytest.mark.parametrize(("size", "crop", "offset"), [(256, 224, 16), (33, 28, 2), (35, 28, 4), (48, 48, 0)])
def test_centre_crop_rounds_halves_to_even(tmp_path: Path, size: int, crop: int, offset: int) -> None:
    columns = np.tile(np.arange(size, dtype=np.uint16).astype(np.uint8), (size, 1))
    image = save(tmp_path / "a.png", columns)
    assert Preprocess(image_size=size, crop_size=crop).pixels(image)[0, 0, 0] == offset


def test_an_anomalous_pixel_never_vanishes_under_the_rule_any(pair: tuple[Path, Path]) -> None:
    image, mask = pair
    masks = {
        rule: Preprocess(image_size=16, mask_rule=rule).mask(Record(image, "part", 1, mask=mask))
        for rule in ("nearest", "any", "half")
    }
    assert masks["any"][14, 1]
    assert not masks["half"][14, 1]
    assert masks["any"].sum() > masks["nearest"].sum() >= 1
    assert (masks["any"] | ~masks["half"]).all()  # half is a subset of any


def test_masks_are_binarised_before_they_are_resized(pair: tuple[Path, Path], tmp_path: Path) -> None:
    image, mask = pair
    white = save(tmp_path / "white.png", (np.asarray(Image.open(mask)) > 0).astype(np.uint8) * 255)
    for rule in ("nearest", "any", "half"):
        preprocess = Preprocess(image_size=23, mask_rule=rule)
        assert (
            preprocess.mask(Record(image, "part", 1, mask=mask))
            == preprocess.mask(Record(image, "part", 1, mask=white))
        ).all()


def test_no_mask_means_nothing_anomalous(pair: tuple[Path, Path]) -> None:
    mask = Preprocess(image_size=8, crop_size=6).mask(Record(pair[0], "part", 0))
    assert mask.shape == (6, 6)
    assert not mask.any()


def test_mask_of_another_size_names_both_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    image, _ = pair
    mask = save(tmp_path / "small.png", np.zeros((40, 59), dtype=np.uint8))
    preprocess = Preprocess(image_size=8)
    with pytest.raises(MaskSizeMismatch, match=r"image\.png is 60x40, its mask is 59x40(.|\n)*small\.png"):
        preprocess.mask(Record(image, "part", 1, mask=mask))


def photograph(folder: Path, size: tuple[int, int], orientation: int) -> tuple[Path, np.ndarray]:
    """A stored picture with a bright corner region, and where it is."""
    mark = np.zeros(size[::-1], dtype=bool)
    mark[:6, :10] = True
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(mark.astype(np.uint8) * 255).save(folder / "a.png", exif=exif)
    return folder / "a.png", mark


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("drawn_upright", [False, True])
@pytest.mark.parametrize("size", [(30, 20), (24, 24)])
def test_a_mask_lies_on_its_image_whichever_way_up_it_was_drawn(
    tmp_path: Path, orientation: int, upright: bool, drawn_upright: bool, size: tuple[int, int]
) -> None:
    image, mark = photograph(tmp_path, size, orientation)
    drawn = turn_values(mark, orientation) if drawn_upright else mark
    mask = save(tmp_path / "mask.png", np.ascontiguousarray(drawn).astype(np.uint8))
    record = Record(image, "part", 1, mask=mask, mask_upright=drawn_upright)
    preprocess = Preprocess(image_size=12, interpolation="nearest", upright=upright)
    bright = preprocess.pixels(image)[..., 0] > 0
    np.testing.assert_array_equal(preprocess.mask(record), bright)
    whole = preprocess.as_loaded(drawn, record)
    np.testing.assert_array_equal(whole, np.asarray(preprocess.original(image))[..., 0] > 0)
    assert preprocess.size_of(image) == whole.shape[::-1]


def test_the_mask_has_no_say_in_how_its_image_is_loaded(tmp_path: Path) -> None:
    image, mark = photograph(tmp_path, (30, 20), 6)
    mask = save(tmp_path / "mask.png", mark.T.astype(np.uint8))
    for upright in (False, True):
        dataset = AnomalyDataset(
            [Record(image, "part", 1, mask=mask), Record(image, "part", 0)],
            Preprocess(image_size=10, upright=upright),
        )
        with_mask, without = dataset.pixels([0, 1])
        np.testing.assert_array_equal(with_mask, without)


def test_a_mask_of_unknown_orientation_lies_as_its_image(tmp_path: Path) -> None:
    image, mark = photograph(tmp_path, (24, 24), 3)
    mask = save(tmp_path / "mask.png", mark.astype(np.uint8))
    for upright in (False, True):
        loaded = Preprocess(upright=upright).as_loaded(mark, Record(image, "part", 1, mask=mask))
        np.testing.assert_array_equal(loaded, mark)


@pytest.mark.parametrize(
    ("preprocess", "size", "share"),
    [
        (Preprocess(image_size=240, fit="short_side"), (192, 108), 1 - 108 / 192),
        (Preprocess(image_size=240, fit="short_side"), (108, 192), 1 - 108 / 192),
        (Preprocess(image_size=240), (192, 108), 0),
        (Preprocess(image_size=256, crop_size=224), (50, 50), 1 - (224 / 256) ** 2),
        (Preprocess(image_size=256, crop_size=128, fit="short_side"), (200, 100), 1 - 0.5 * 0.25),
    ],
)
def test_what_never_reaches_the_network_is_known(
    preprocess: Preprocess, size: tuple[int, int], share: float
) -> None:
    assert preprocess.unseen(*size) == pytest.approx(share, abs=0.002)
    words = preprocess.unseen_words(*size)
    assert words is None if share == 0 else f"{100 * share:.0f} % of each picture" in str(words)


def test_white_of_a_camera_makes_its_pictures_bright(tmp_path: Path) -> None:
    grey = np.full((8, 8), 200, dtype=np.uint8)
    deep = save(tmp_path / "deep.png", grey.astype(np.uint16) * 16)
    white = Preprocess(image_size=8, white=255 * 16).pixels(deep)
    assert (white == 200).all()
    assert (Preprocess(image_size=8).pixels(deep) == 12).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3))
def test_unnormalise_undoes_normalise(seed: int, batch: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (batch, 5, 7, 3), dtype=np.uint8)
    preprocess = Preprocess()
    images = normalise(pixels, preprocess)
    assert images.is_contiguous()
    assert torch.equal(images, normalise(torch.from_numpy(pixels), preprocess))
    assert (unnormalise(images, preprocess) == pixels).all()


def test_restoring_without_a_crop_is_bilinear_interpolation() -> None:
    one = torch.rand(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for height, width in ((37, 90), (300, 1000)):  # the larger one in several bands
        restored = torch.from_numpy(Preprocess(image_size=64).restore(one.numpy(), height, width))
        (expected,) = F.interpolate(one[None, None], (height, width), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(restored, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fit", ["stretch", "short_side"])
def test_restored_maps_lie_where_the_pixels_were(fit: Any, tmp_path: Path) -> None:
    """A picture of its own coordinates, preprocessed and restored, gives the coordinates back."""
    height, width = 90, 150
    rows, columns = np.mgrid[:height, :width]
    image = save(tmp_path / "a.png", np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8))
    preprocess = Preprocess(image_size=60, crop_size=40, fit=fit)
    maps = preprocess.pixels(image).astype(np.float32).transpose(2, 0, 1)
    restored = [preprocess.restore(each, height, width) for each in maps]
    centre = (slice(height // 3, 2 * height // 3), slice(2 * width // 5, 3 * width // 5))
    # Within the rounding to grey levels and the width of the antialiasing filter.
    np.testing.assert_allclose(restored[0][centre], rows[centre], rtol=0, atol=1)
    np.testing.assert_allclose(restored[1][centre], columns[centre], rtol=0, atol=1)
    assert restored[1][:, 0].std() < 1  # cut off: the edge's value repeated
    assert restored[1][45, 0] == pytest.approx(maps[1, 20, 0].item(), abs=1)


def test_settings_survive_json() -> None:
    preprocess = Preprocess(
        image_size=300, crop_size=256, fit="short_side", mean=(0.5, 0.5, 0.5), upright=True
    )
    assert Preprocess(**json.loads(json.dumps(asdict(preprocess)))) == preprocess


def test_key_changes_with_what_changes_pixels_and_with_nothing_else() -> None:
    base = Preprocess(image_size=64)
    changed = [
        replace(base, **change)
        for change in (
            {"image_size": 65},
            {"crop_size": 32},
            {"fit": "short_side"},
            {"interpolation": "bicubic"},
            {"upright": True},
            {"rgb": "last"},
            {"white": 4095},
        )
    ]
    assert len({preprocess.key() for preprocess in (base, *changed)}) == 8
    assert replace(base, mean=(0.0, 0.0, 0.0), mask_rule="any", crop_size=64).key() == base.key()


@pytest.mark.parametrize(("size", "crop"), [(0, None), (32, 33), (32, 0)])
def test_impossible_sizes_are_refused(size: int, crop: int | None) -> None:
    with pytest.raises(BadValue, match="expected"):
        Preprocess(image_size=size, crop_size=crop)


def test_colours_converted_last_leave_a_palette_unmixed(tmp_path: Path) -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 1], dtype=np.uint8), (8, 4)), "L")
    stripes.putpalette([255, 0, 0, 0, 0, 255])
    stripes.save(tmp_path / "palette.png")
    base = Preprocess(image_size=20, interpolation="bicubic")
    colours = {
        rgb: {
            tuple(colour) for row in replace(base, rgb=rgb).pixels(tmp_path / "palette.png") for colour in row
        }
        for rgb in ("first", "last")
    }
    assert colours["last"] == {(255, 0, 0), (0, 0, 255)}
    assert len(colours["first"]) > 2


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_colours_converted_last_give_rgb_of_every_mode(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (9, 7), None if mode != "I;16" else 40000).save(tmp_path / "image.png")
    pixels = Preprocess(image_size=5, fit="short_side", rgb="last").pixels(tmp_path / "image.png")
    assert pixels.shape == (5, 5, 3)


@pytest.mark.parametrize(("excess", "start"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_an_odd_rest_is_cropped_at_the_even_place(tmp_path: Path, excess: int, start: int) -> None:
    row = np.arange(20 + excess, dtype=np.uint8)
    Image.fromarray(np.tile(row, (20, 1))).save(tmp_path / "image.png")
    pixels = Preprocess(image_size=20, fit="short_side").pixels(tmp_path / "image.png")
    assert pixels[0, :, 0].tolist() == row[start : start + 20].tolist()
