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

from adcommon.data.normalise import normalise, unnormalise
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, MaskSizeMismatch


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
        images = normalise(preprocess.pixels(image, mask)[None], preprocess)
        golden.assert_close(images[0].numpy(), case["tensor"])
        golden.assert_close(preprocess.mask(mask, image)[None], case["mask_bool"])
        touched = golden.arrays[case["mask_tensor"]] > golden.meta["mask_threshold"]
        assert (preprocess.mask(mask, image) == touched[0]).all()


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
        rule: Preprocess(image_size=16, mask_rule=rule).mask(mask, image)
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
        assert (preprocess.mask(mask, image) == preprocess.mask(white, image)).all()


def test_no_mask_means_nothing_anomalous(pair: tuple[Path, Path]) -> None:
    mask = Preprocess(image_size=8, crop_size=6).mask(None, pair[0])
    assert mask.shape == (6, 6)
    assert not mask.any()


def test_mask_of_another_size_names_both_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    image, _ = pair
    mask = save(tmp_path / "small.png", np.zeros((40, 59), dtype=np.uint8))
    preprocess = Preprocess(image_size=8)
    for use in (lambda: preprocess.pixels(image, mask), lambda: preprocess.mask(mask, image)):
        with pytest.raises(
            MaskSizeMismatch, match=r"image\.png is 60x40, its mask is 59x40(.|\n)*small\.png"
        ):
            use()


def test_image_follows_the_orientation_of_its_mask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((20, 30, 3), dtype=np.uint8)
    stored[:, :15] = 255
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    mask = save(tmp_path / "mask.png", np.ones((30, 20), dtype=np.uint8))
    preprocess = Preprocess(image_size=10)
    assert preprocess.mask(mask, tmp_path / "a.jpg").all()
    turned = preprocess.pixels(tmp_path / "a.jpg", mask)
    assert turned[0].min() > 200
    assert turned[-1].max() < 50
    assert (turned == replace(preprocess, upright=True).pixels(tmp_path / "a.jpg")).all()


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
    maps = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))
    restored = torch.from_numpy(Preprocess(image_size=64).restore(maps.numpy(), 37, 90))
    expected = F.interpolate(maps[None], (37, 90), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-5)  # float32 sampling positions


@pytest.mark.parametrize("fit", ["stretch", "short_side"])
def test_restored_maps_lie_where_the_pixels_were(fit: Any, tmp_path: Path) -> None:
    """A picture of its own coordinates, preprocessed and restored, gives the coordinates back."""
    height, width = 90, 150
    rows, columns = np.mgrid[:height, :width]
    image = save(tmp_path / "a.png", np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8))
    preprocess = Preprocess(image_size=60, crop_size=40, fit=fit)
    maps = preprocess.pixels(image).astype(np.float32).transpose(2, 0, 1)
    restored = preprocess.restore(maps, height, width)
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
        )
    ]
    assert len({preprocess.key() for preprocess in (base, *changed)}) == 7
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
