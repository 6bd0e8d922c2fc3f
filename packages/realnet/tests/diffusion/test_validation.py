from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from adcommon.testing.trees import make_mvtec
from adcommon.types.records import Record
from realnet.diffusion.data import make_dataset
from realnet.diffusion.recipes import DIFFUSION_RECIPES, SampleRecipe
from realnet.diffusion.settings import SampleSettings
from realnet.diffusion.sources import training_images
from realnet.diffusion.store import Learnt, build
from realnet.diffusion.validation import Validation, check_model, grid

RECIPE = replace(
    DIFFUSION_RECIPES["tiny"], batch_size=3, chunk_size=2, validation_batches=2, validation_respacing="ddim4"
)


class Grey(torch.nn.Module):
    """A network that takes every image for grey: all of it is noise."""

    def forward(self, images: torch.Tensor, times: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.cat([1e3 * images, -torch.ones_like(images)], dim=1)


def validation(folder: Path) -> Validation:
    records = []
    for number in range(8):
        (folder / "good").mkdir(exist_ok=True)
        path = folder / "good" / f"{number}.png"
        Image.fromarray(np.full((32, 32, 3), 255 * (number % 2), dtype=np.uint8)).save(path)
        records.append(Record(path, "plate", 0))
    dataset = make_dataset(RECIPE, {"plate": records}, cache=False)
    return Validation(Grey(), dataset, torch.zeros(8, dtype=torch.long), RECIPE, torch.device("cpu"))


def test_the_error_is_that_of_the_rebuilt_images_and_pictures_show_them(tmp_path: Path) -> None:
    found = validation(tmp_path)
    # What is rebuilt has the wrong sign, at the ends of the range: the error of every value is 2.
    assert found.measure(3, tmp_path / "out", Accelerator(cpu=True)) == 4.0
    pictures = sorted((tmp_path / "out" / "3" / "plate" / "good").iterdir())
    assert len(pictures) == 6  # two batches of three of the eight images
    number = int(pictures[0].stem)
    tiles = np.asarray(Image.open(pictures[0]))
    assert tiles.shape == (64, 96, 3)
    assert (tiles[32:, :32] == 255 * (number % 2)).all()
    assert (tiles[32:, 64:] == 255 * (1 - number % 2)).all()


def test_a_smaller_error_is_the_best_one_also_after_a_restart(tmp_path: Path) -> None:
    found, again = validation(tmp_path), validation(tmp_path)
    assert [found.is_best(error) for error in (0.3, 0.4, 0.2)] == [True, False, True]
    again.load_state_dict(found.state_dict())
    assert not again.is_best(0.25)


def test_tiles_stand_in_two_rows() -> None:
    tiles = [np.full((1, 1, 3), number, dtype=np.uint8) for number in range(6)]
    assert grid(tiles)[:, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_check_reports_every_category_and_warns_of_few_images(tmp_path: Path, caplog) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"), train=4)
    recipe = replace(DIFFUSION_RECIPES["tiny"], image_size=16)
    diffusion = Learnt(build(recipe, 2).eval(), recipe, ("bottle", "cable"))
    sampling = SampleRecipe(batch_size=2, respacing="ddim2")
    images = training_images(diffusion.recipe, tmp_path, diffusion.categories)
    errors = check_model(
        diffusion, sampling, images, tmp_path / "out", Accelerator(cpu=True), SampleSettings(cache=False)
    )
    assert list(errors) == ["bottle", "cable"]
    assert all(0 < error < 10 for error in errors.values())
    assert "bottle has 4 training images only" in caplog.text
    assert len(list((tmp_path / "out").glob("*/*/good/*.png"))) == 4
