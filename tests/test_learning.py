"""Every method learns: a short training on drawn products, beside the same with a learning rate of 0.

uv run pytest tests/test_learning.py -m slow
"""

from pathlib import Path
from statistics import fmean

import pytest

from adcommon.testing.commands import read_rows, read_table, succeed

QUICK = "--recipe quickstart --device cpu"
BRICK = f"{QUICK} --dataset synthetic --category brick"
LEARNING = {
    "recontrast-train": (f"{BRICK} --iterations 60", "--decoder-lr 0 --encoder-lr 0", 0.95, 0.2),
    "uniad-train": (f"{BRICK} --epochs 20 --lr-step 15 --no-whiten", "--lr 0", 0.85, 0.1),
    "realnet-train": (f"{BRICK} --iterations 150", "--lr 0", 0.85, 0.1),
    "inctrl-train": (
        f"{QUICK} --dataset synthetic --train-category brick grass --test-datasets synthetic/gravel "
        "--reference-seeds 0 --epochs 1 --steps-per-epoch 60 --no-relative --loss-on logits",
        "--lr 0",
        0.93,
        0.015,
    ),
}
"""Command -> flags of the training, those that keep it from learning, and of the image AUROC its floor, and
how far it must be above that of what learned nothing. Half of InCTRL's score is a distance that is not
learned. Whitened features and relative residuals tell much before anything is learned: here is neither."""
RESAD = (
    f"{QUICK} --setting synthetic_to_synthetic --train-category brick grass --category gravel --shots 8 "
    "--reference-seeds 0"
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", LEARNING)
def test_a_short_training_beats_one_that_cannot_learn(command: str, tmp_path: Path) -> None:
    words, still, floor, margin = LEARNING[command]
    learned = image_auroc(command, words, tmp_path / "learned")
    assert learned >= floor
    assert learned >= margin + image_auroc(command, f"{words} {still}", tmp_path / "still")


def image_auroc(command: str, words: str, out: Path) -> float:
    succeed(command, *words.split(), "--out", out)
    (row,) = [row for row in read_rows(out) if row["protocol"] == "standard"]
    return row["image_auroc"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_resad_learns_how_likely_residuals_are(tmp_path: Path) -> None:
    """By its loss: on these images the residuals alone tell defects as well, before anything is learned."""
    succeed("resad-train", *RESAD.split(), "--lr", "2e-4", "--out", tmp_path / "learned")
    succeed("resad-train", *RESAD.split(), "--lr", "0", "--out", tmp_path / "still")
    assert last_loss(tmp_path / "learned") < last_loss(tmp_path / "still") - 0.3


def last_loss(out: Path) -> float:
    """Mean of the last five steps."""
    (table,) = out.rglob("metrics.csv")
    return fmean(float(row["loss"]) for row in read_table(table)[-5:])
