from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from adcommon.data.normalise import normalise
from adcommon.types.records import Record
from realnet.diffusion.data import augmented, labels_of, make_dataset, make_preprocess, training_batches
from realnet.diffusion.recipes import DIFFUSION_RECIPES

TINY = replace(DIFFUSION_RECIPES["tiny"], batch_size=4)


@pytest.fixture
def images(tmp_path) -> dict[str, list[Record]]:
    """Five images of one grey level each, in two categories."""
    found: dict[str, list[Record]] = {}
    for number, category in enumerate(["nut", "nut", "bolt", "bolt", "bolt"]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((40, 40, 3), 50 * number, dtype=np.uint8)).save(path)
        found.setdefault(category, []).append(Record(path, category, 0))
    return found


def test_values_lie_between_minus_one_and_one() -> None:
    pixels = np.array([[[[0, 127, 255]]]], dtype=np.uint8)
    values = normalise(pixels, make_preprocess(1, upright=False)).flatten()
    torch.testing.assert_close(values, torch.tensor([0.0, 127.0, 255.0]) / 127.5 - 1)


def test_every_image_comes_with_its_class_once_an_epoch_and_in_a_known_order(images) -> None:
    dataset = make_dataset(TINY, images, cache=False)
    labels = labels_of(dataset, list(images))
    assert labels.tolist() == [0, 0, 1, 1, 1]

    def batches(start: int):
        return training_batches(dataset, labels, TINY, Accelerator(cpu=True), start=start, workers=0)

    source = batches(0)
    first, second, third = (next(source) for _ in range(3))
    grey = torch.cat([first.clean, second.clean])[:, 0, 0, 0]
    numbers = ((grey + 1) * 127.5 / 50).round().long()
    assert sorted(numbers.tolist()) == [0, 1, 2, 3, 4]
    assert torch.equal(torch.cat([first.labels, second.labels]), (numbers >= 2).long())
    again = next(batches(2))
    for name in ("clean", "labels", "noise", "steps"):
        assert torch.equal(getattr(again, name), getattr(third, name))
    assert not torch.equal(first.noise, second.noise)


def test_augmentations_mirror_and_turn_and_nothing_else() -> None:
    image = torch.arange(12.0).view(3, 2, 2)
    turned = augmented(image.expand(256, -1, -1, -1), replace(TINY, hflip=True, vflip=True, rotate=True))
    corners = {tuple(one[0].flatten().tolist()) for one in turned}
    assert len(corners) == 8
    assert {tuple(sorted(corner)) for corner in corners} == {(0.0, 1.0, 2.0, 3.0)}
    mirrored = augmented(image.expand(64, -1, -1, -1), replace(TINY, hflip=True))
    assert len({tuple(one.flatten().tolist()) for one in mirrored}) == 2
