import csv
from pathlib import Path

import numpy as np
import pytest

from adcommon.testing.console import call

SMALL = ("--backbone", "resnet18", "--image-size", "32", "--weights", "random", "--device", "cpu")


@pytest.mark.parametrize("source", ["folder", "dataset"])
def test_extract_writes_features_of_a_few_shot_folder_or_a_dataset(trees: Path, source: str) -> None:
    given = (
        ("--few_shot_dir", trees / "visa") if source == "folder" else ("--data_root", trees, "--shots", "4")
    )
    done = call(
        "resad-extract",
        "--dataset",
        "visa",
        "--save_dir",
        trees / "f",
        "--category",
        "candle",
        "pcb1",
        *given,
        *SMALL,
    )
    assert done.returncode == 0, done.stderr
    assert np.load(trees / "f/pcb1/layer3.npy").shape == ((6 if source == "folder" else 4) * 4, 256)
    assert "candle: (" in done.stdout


def test_extract_says_what_is_missing_or_too_much(trees: Path, tmp_path: Path) -> None:
    done = call("resad-extract", "--few_shot_dir", tmp_path / "nothing", *SMALL)
    assert done.returncode == 2
    assert "CATEGORY/train/good" in done.stderr
    done = call("resad-extract", "--shots", "4", "--published", "4")
    assert done.returncode == 2
    assert "use one of them" in done.stderr


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints/mvtec_to_visa_2shot"
    folder.mkdir(parents=True)
    path = folder / "mvtec_to_visa_2shot_epoch3_metrics.csv"
    path.write_text(
        "Class Name,Image AUC,Pixel AUC\ncandle,0.9,0.8\npcb1,0.7,0.95\npcb2,0.6,0.9\npcb3,0.5,0.7\n"
    )
    return path


def test_plots_are_drawn_with_their_numbers_beside_them(table: Path, tmp_path: Path) -> None:
    done = call(
        "resad-plot-shots",
        "--checkpoints",
        tmp_path / "checkpoints",
        "--shots",
        "2",
        "--out",
        tmp_path / "s.png",
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.675, 0.8375])
    done = call("resad-plot-classes", "--csv", table, "--out", tmp_path / "c.png", "--worst", "2")
    assert done.returncode == 0, done.stderr
    assert "lowest Pixel AUC: pcb3, candle" in done.stdout
    assert (tmp_path / "c.png").exists()
    assert (tmp_path / "c.csv").exists()


def test_plots_of_nothing_end_with_exit_code_2(tmp_path: Path) -> None:
    done = call("resad-plot-shots", "--checkpoints", tmp_path, "--out", tmp_path / "s.png")
    assert done.returncode == 2
    assert "resad-multishot" in done.stderr
    done = call("resad-plot-classes", "--csv", tmp_path / "x.csv", "--out", tmp_path / "c.png")
    assert done.returncode == 2
    done = call("resad-plot-classes", "--worst", "0")
    assert done.returncode == 2


def test_align_chooses_images_that_evaluate_can_use(trees: Path) -> None:
    done = call(
        "resad-align", "--dataset", "visa", "--data-root", trees, "--category", "candle",
        "--out", trees / "r", "--count", "3", "--backbone", "resnet18", "--weights", "random", "--image-size",
        "64", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.load(trees / "r/indices3/visa/candle_knn_indices.npy").shape == (6, 3)
