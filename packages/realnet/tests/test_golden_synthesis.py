"""Parity of synthetic anomalies with the reference on golden files; what varies is in their meta.json."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.testing.golden import GoldenFile, GoldenFolder, golden_cases
from realnet.synthesis.blend import blend
from realnet.synthesis.foreground import rule_for
from realnet.synthesis.opencv import grey, otsu_threshold, resize, triangle_threshold
from realnet.synthesis.perlin import perlin_masks, perlin_noise, turned


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    golden_cases(metafunc)


def masks_of(file: GoldenFile, cases: list[dict]) -> np.ndarray:
    """The Perlin masks of cases with supplied random numbers."""
    grids = [file[case["uniform"]] for case in cases]
    for grid, case in zip(grids, cases, strict=True):
        assert grid.shape == tuple(2**exponent + 1 for exponent in case["scale_exponents"])
    degrees = np.array([case["angle"] for case in cases])
    return perlin_masks(grids, degrees, tuple(file.entry["size"]), file.entry["perlin_threshold"])


def resized(image: np.ndarray, size: tuple[int, int], resampling: str) -> np.ndarray:
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling[resampling.upper()]))


def test_synthesis(file: GoldenFile) -> None:
    entry, size = file.entry, tuple(file.entry["size"])
    noises = entry["noises"]
    noise = perlin_noise([file[case["uniform"]] for case in noises], size)
    rotated = turned(noise, np.array([case["angle"] for case in noises]))
    image = file[entry["foreground"]["image"]]
    with file:
        for index, (case, mask) in enumerate(zip(noises, masks_of(file, noises), strict=True)):
            file.check(case["noise"], noise[index])
            file.check(case["rotated"], rotated[index])
            file.check(case["mask"], mask)

        luma = grey(image)
        file.check(entry["foreground"]["gray"], luma)
        file.check(entry["foreground"]["otsu"], otsu_threshold(luma))
        file.check(entry["foreground"]["triangle"], triangle_threshold(luma))
        for case in entry["foreground"]["masks"]:
            file.check(case["array"], rule_for(case["dataset"], case["class"])(image[None])[0])

        base = entry["base_transform"]
        assert [base[change] for change in ("hflip", "vflip", "rotate")] == [False] * 3
        preprocess = Preprocess(image_size=size[0], mean=entry["mean"], std=entry["std"])
        for case, perlin in zip(entry["items"], masks_of(file, entry["items"]), strict=True):
            clean = resized(file[case["raw"]], tuple(base["size"]), base["interpolation"])[None]
            masks = perlin & rule_for(case["dataset"], case["class"])(clean)
            source = resize(file[case["source"]], size)[None]
            blended = blend(clean, source, masks, np.array([case["factor"]]))
            file.check(case["mask"], masks.astype(np.uint8))
            file.check(case["image"], normalise(blended, preprocess)[0])
            file.check(case["gt_image"], normalise(clean, preprocess)[0])


def test_preprocess(file: GoldenFile, folder: GoldenFolder) -> None:
    entry, size = file.entry, tuple(file.entry["size"])
    image = resized(file["raw"], size, entry["image_interpolation"])
    mask = resized(file["mask_raw"], size, entry["mask_interpolation"])
    preprocess = Preprocess(image_size=size[0], mean=entry["mean"], std=entry["std"])
    source = entry["sdas_source"]
    assert source["interpolation"] == "opencv_bilinear"
    scale, offset = entry["diffusion_scale"], entry["diffusion_offset"]
    diffusion = Preprocess(image_size=size[0], mean=[-offset / scale] * 3, std=[1 / scale] * 3)
    with file:
        file.check("resized_uint8", image)
        file.check("image", normalise(image[None], preprocess)[0])
        file.check("mask", mask[None].astype(np.float32) / 255)
        file.check("diffusion_image", normalise(image[None], diffusion)[0])
        file.check("sdas_source_resized", resize(folder.open(source["file"])[source["array"]], size))


def test_files_on_disk_are_read_as_the_golden_files_were(folder: GoldenFolder, tmp_path: Path) -> None:
    for name in folder.names("preprocess"):
        file = folder.open(name)
        side, other = file.entry["size"]
        if side != other:
            continue  # our images are square
        Image.fromarray(file["raw"]).save(tmp_path / "raw.png")
        pixels = Preprocess(image_size=side).pixels(tmp_path / "raw.png")
        assert np.array_equal(pixels, file["resized_uint8"])
