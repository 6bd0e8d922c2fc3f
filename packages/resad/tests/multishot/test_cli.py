from pathlib import Path

import numpy as np
import pytest

from adcommon.testing.commands import read_table, refused, succeed

SMALL = ("--backbone", "resnet18", "--image-size", "32", "--weights", "random", "--device", "cpu")


@pytest.mark.parametrize("source", ["folder", "dataset"])
def test_extract_writes_features_of_a_few_shot_folder_or_a_dataset(trees: Path, source: str) -> None:
    given = (
        ("--few_shot_dir", trees / "visa") if source == "folder" else ("--data_root", trees, "--shots", "4")
    )
    done = succeed(
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
    assert np.load(trees / "f/pcb1/layer3.npy").shape == ((6 if source == "folder" else 4) * 4, 256)
    assert "candle: (" in done.stdout


def test_extract_says_what_is_missing_or_too_much(trees: Path, tmp_path: Path) -> None:
    said = refused("resad-extract", "--few_shot_dir", tmp_path / "nothing", *SMALL)
    assert "CATEGORY/train/good" in said
    said = refused("resad-extract", "--shots", "4", "--published", "4")
    assert "use one of them" in said


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
    succeed(
        "resad-plot-shots",
        "--checkpoints",
        tmp_path / "checkpoints",
        "--shots",
        "2",
        "--out",
        tmp_path / "s.png",
    )
    rows = read_table(tmp_path / "s.csv")
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.675, 0.8375])
    done = succeed("resad-plot-classes", "--csv", table, "--out", tmp_path / "c.png", "--worst", "2")
    assert "lowest Pixel AUC: pcb3, candle" in done.stdout
    assert (tmp_path / "c.png").exists()
    assert (tmp_path / "c.csv").exists()


def test_plots_of_nothing_end_with_exit_code_2(tmp_path: Path) -> None:
    said = refused("resad-plot-shots", "--checkpoints", tmp_path, "--out", tmp_path / "s.png")
    assert "resad-multishot" in said
    refused("resad-plot-classes", "--csv", tmp_path / "x.csv", "--out", tmp_path / "c.png")
    refused("resad-plot-classes", "--worst", "0")


def test_align_chooses_images_that_evaluate_can_use(trees: Path) -> None:
    succeed(
        "resad-align", "--dataset", "visa", "--data-root", trees, "--category", "candle",
        "--out", trees / "r", "--count", "3", "--backbone", "resnet18", "--weights", "random", "--image-size",
        "64", "--device", "cpu",
    )  # fmt: skip
    assert np.load(trees / "r/indices3/visa/candle_knn_indices.npy").shape == (6, 3)
