"""Draw tiny datasets into a folder: textured images, bright square defects, exact masks; no torch here."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image


def make_mvtec(
    folder: Path,
    categories: Sequence[str] = ("alpha", "beta"),
    train: int = 6,
    test_good: int = 3,
    test_defect: int = 3,
    size: int = 64,
    seed: int = 0,
    defects: Sequence[str] = ("spot",),
    masks: bool = True,
) -> Path:
    """Draw categories in the layout of MVTec AD and return `folder`.

    Args:
        folder: is made if need be.
        categories: one tree each.
        train: normal training images of each category.
        test_good: normal test images.
        test_defect: anomalous test images of each defect.
        size: side of the square images, pixels.
        seed: of everything drawn.
        defects: names of the folders of anomalous images.
        masks: with `ground_truth`.
    """
    for index, category in enumerate(categories):
        generator = np.random.default_rng([seed, index])
        root = folder / category
        _draw_normal(root / "train/good", train, size, generator)
        _draw_normal(root / "test/good", test_good, size, generator)
        for defect in defects:
            ground_truth = root / "ground_truth" / defect if masks else None
            _draw_defective(root / "test" / defect, ground_truth, test_defect, size, generator)
    return folder


def make_class_folders(
    folder: Path, train: int = 6, test_normal: int = 3, test_abnormal: int = 3, size: int = 64, seed: int = 0
) -> Path:
    """Draw `train/NORMAL`, `test/NORMAL`, `test/ABNORMAL`, without masks, and return `folder`."""
    generator = np.random.default_rng(seed)
    _draw_normal(folder / "train/NORMAL", train, size, generator)
    _draw_normal(folder / "test/NORMAL", test_normal, size, generator)
    _draw_defective(folder / "test/ABNORMAL", None, test_abnormal, size, generator)
    return folder


def make_folder(
    folder: Path,
    good: int = 8,
    defective: int = 3,
    size: int = 64,
    seed: int = 0,
    defects: Sequence[str] = (),
    masks: bool = False,
) -> Path:
    """Draw a user's folder, `good` and one folder for each of `defects`, and return `folder`."""
    generator = np.random.default_rng(seed)
    _draw_normal(folder / "good", good, size, generator)
    for defect in defects:
        ground_truth = folder / "ground_truth" / defect if masks else None
        _draw_defective(folder / defect, ground_truth, defective, size, generator)
    return folder


def make_cifar10(folder: Path, train: int = 2, test: int = 3, seed: int = 0) -> Path:
    """Draw the batches of CIFAR-10's Python version and return `folder`.

    Args:
        folder: is made if need be.
        train: images of each class in each of the five training batches.
        test: images of each class in the test batch.
        seed: of everything drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = generator.permutation(np.repeat(np.arange(10), test if name == "test_batch" else train))
        pixels = generator.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        batch = {"batch_label": name, "labels": labels.tolist(), "data": pixels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def make_mvtec_loco(
    folder: Path, train: int = 4, test: int = 3, size: int = 64, seed: int = 0, masks: str = "ground_truth"
) -> Path:
    """Draw a category in the layout of MVTec LOCO AD and return `folder`.

    The mask of an image is a folder of channels: a spot of value 255, which counts as found when half of it
    is, and a spot of value 254, in two parts, which counts as found at 20 pixels.

    Args:
        folder: of the category; is made if need be.
        train: normal training images.
        test: normal, structural and logical test images each.
        size: side of the square images, pixels.
        seed: of everything drawn.
        masks: name of the folder of masks.
    """
    generator = np.random.default_rng(seed)
    _draw_normal(folder / "train/good", train, size, generator)
    _draw_normal(folder / "validation/good", 1, size, generator)
    _draw_normal(folder / "test/good", test, size, generator)
    part = size // 8
    for group in ("logical_anomalies", "structural_anomalies"):
        (folder / "test" / group).mkdir(parents=True)
        for index in range(test):
            image, channels = draw_image(size, generator), np.zeros((2, size, size), dtype=np.uint8)
            for channel, value, top in ((0, 255, 0), (1, 254, size // 3), (1, 254, 2 * size // 3)):
                left = int(generator.integers(0, size - part))
                channels[channel, top : top + part, left : left + part] = value
            image[channels.any(axis=0)] = (250, 240, 60)
            Image.fromarray(image).save(folder / "test" / group / f"{index:03d}.png")
            target = folder / masks / group / f"{index:03d}"
            target.mkdir(parents=True)
            for number, channel_mask in enumerate(channels):
                Image.fromarray(channel_mask).save(target / f"{number:03d}.png")
    config = [
        {"defect_name": "spot", "pixel_value": 255, "saturation_threshold": 0.5, "relative_saturation": True},
        {"defect_name": "pair", "pixel_value": 254, "saturation_threshold": 20, "relative_saturation": False},
    ]
    (folder / "defects_config.json").write_text(json.dumps(config))
    return folder


def draw_image(size: int, generator: Generator) -> np.ndarray:
    """A normal image: noisy stripes whose phase and brightness vary; uint8, `size` x `size` x 3."""
    rows, columns = np.mgrid[:size, :size] / size
    stripes = np.sin(12 * (rows + 0.3 * columns) + generator.uniform(0, 2 * np.pi))
    grey = 110 + 30 * stripes + generator.uniform(-10, 10) + generator.normal(0, 6, (size, size))
    return np.clip(grey[..., None] * (1.0, 0.95, 0.85), 0, 255).astype(np.uint8)


def _draw_normal(folder: Path, count: int, size: int, generator: Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(draw_image(size, generator)).save(folder / f"{index:03d}.png", compress_level=1)


def _draw_defective(folder: Path, masks: Path | None, count: int, size: int, generator: Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = draw_image(size, generator)
        mask = np.zeros((size, size), dtype=np.uint8)
        side = max(size // 6, 1)
        top, left = generator.integers(0, size - side, size=2)
        mask[top : top + side, left : left + side] = 255
        image[mask > 0] = (250, 240, 60)
        Image.fromarray(image).save(folder / f"{index:03d}.png", compress_level=1)
        if masks is not None:
            masks.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(masks / f"{index:03d}_mask.png")
