"""A defect that is too small for the network's input is found in tiles, and missed without."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.deploy.load import load
from adcommon.testing.commands import succeed

SPOT = 60
"""Value of the defect's pixels; others have 150 +- 15."""


@pytest.mark.slow
def test_a_defect_of_ten_pixels_is_found_in_tiles(tmp_path: Path) -> None:
    width, height, spot, tile = 4000, 3000, 10, 512
    generator = np.random.default_rng(0)

    def photo(file: Path, *, spoiled: bool = False) -> None:
        clouds = Image.fromarray(generator.normal(150, 15, (96, 128)).astype(np.float32))
        pixels = np.asarray(clouds.resize((width, height))).clip(0, 255).astype(np.uint8)
        if spoiled:
            top, left = generator.integers(spot, (height - 2 * spot, width - 2 * spot))
            pixels[top : top + spot, left : left + spot] = SPOT
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file, quality=95)

    data = tmp_path / "data"
    for number in range(6):
        photo(data / f"train/good/{number}.jpg")
        photo(data / f"test/good/{number}.jpg")
        photo(data / f"test/spot/{number}.jpg", spoiled=True)
    aurocs = {}
    for name, flags in {"whole": [], "tiles": ["--tile", str(tile)]}.items():
        out = tmp_path / name
        succeed("padim-train", "--data", data, "--recipe", "small", "--no-cache", *flags, "--out", out)
        (row,) = json.loads((out / "results.json").read_text())
        aurocs[name] = row["image_auroc"]
    assert aurocs["tiles"] == 1
    assert aurocs["whole"] < 0.9

    # The model brings its tiles along, and its maps show where.
    model = load(tmp_path / "tiles/data/model")
    assert model.preprocess.tile == tile
    result = model.predict(data / "test/spot/0.jpg")
    found = np.unravel_index(result.anomaly_map.argmax(), result.anomaly_map.shape)
    pixels = np.asarray(Image.open(data / "test/spot/0.jpg"))
    wanted = np.argwhere(pixels < SPOT + 20).mean(axis=0)
    assert np.abs(wanted - found).max() < tile / 16
