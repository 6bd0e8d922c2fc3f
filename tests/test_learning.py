"""Every method learns: beside the same training with a learning rate of 0, on drawn products.

uv run pytest tests/test_learning.py -m slow
"""

from pathlib import Path

import pytest

from adcommon.testing.commands import read_rows, succeed

QUICK = "--recipe quickstart --device cpu"
ONE = f"{QUICK} --dataset synthetic --category brick"
LEARNING = {
    "recontrast-train": (f"{ONE} --iterations 60", "--decoder-lr 0 --encoder-lr 0"),
    "uniad-train": (f"{ONE} --epochs 20 --lr-step 15", "--lr 0"),
    "realnet-train": (f"{ONE} --iterations 60", "--lr 0"),
    "inctrl-train": (
        f"{QUICK} --dataset synthetic --train-category brick grass --test-datasets synthetic/gravel "
        "--reference-seeds 0 --epochs 1 --steps-per-epoch 60",
        "--lr 0",
    ),
    "resad-train": (
        f"{QUICK} --setting synthetic_to_synthetic --train-category brick grass --category gravel "
        "--shots 8 --reference-seeds 0",
        "--lr 0",
    ),
}
"""Command -> flags of a short training, and those that keep it from learning."""


def trained(command: str, words: str, out: Path) -> tuple[float, float]:
    """Image and pixel AUROC under the standard protocol."""
    succeed(command, *words.split(), "--out", out)
    (row,) = [row for row in read_rows(out) if row["protocol"] == "standard"]
    return row["image_auroc"], row["pixel_auroc"]
