import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resad import cli

SMALL = ("--backbone", "resnet18", "--image-size", "32", "--weights", "random", "--device", "cpu")


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process; its exit code, and what it printed."""

    def run(command: str, *arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [f"resad-{command}", *map(str, arguments)])
        code: object = 0
        try:
            getattr(cli, command.replace("-", "_"))()
        except SystemExit as done:
            code = done.code
        printed = capsys.readouterr()
        return int(str(code or 0)), printed.out + printed.err

    return run


@pytest.mark.parametrize("source", ["folder", "dataset"])
def test_extract_writes_features_of_a_few_shot_folder_or_a_dataset(call, trees: Path, source: str) -> None:
    given = (
        ("--few_shot_dir", trees / "visa") if source == "folder" else ("--data_root", trees, "--shots", "4")
    )
    code, printed = call(
        "extract",
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
    assert code == 0, printed
    assert np.load(trees / "f/pcb1/layer3.npy").shape == ((6 if source == "folder" else 4) * 4, 256)
    assert "candle: (" in printed


def test_extract_says_what_is_missing_or_too_much(call, trees: Path, tmp_path: Path) -> None:
    code, printed = call("extract", "--few_shot_dir", tmp_path / "nothing", *SMALL)
    assert code == 2
    assert "CATEGORY/train/good" in printed
    code, printed = call("extract", "--shots", "4", "--published", "4")
    assert code == 2
    assert "use one of them" in printed


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints/mvtec_to_visa_2shot"
    folder.mkdir(parents=True)
    path = folder / "mvtec_to_visa_2shot_epoch3_metrics.csv"
    path.write_text(
        "Class Name,Image AUC,Pixel AUC\ncandle,0.9,0.8\npcb1,0.7,0.95\npcb2,0.6,0.9\npcb3,0.5,0.7\n"
    )
    return path


def test_plots_are_drawn_with_their_numbers_beside_them(call, table: Path, tmp_path: Path) -> None:
    code, printed = call(
        "plot-shots", "--checkpoints", tmp_path / "checkpoints", "--shots", "2", "--out", tmp_path / "s.png"
    )
    assert code == 0, printed
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.675, 0.8375])
    code, printed = call("plot-classes", "--csv", table, "--out", tmp_path / "c.png", "--worst", "2")
    assert code == 0, printed
    assert "lowest Pixel AUC: pcb3, candle" in printed
    assert (tmp_path / "c.png").exists()
    assert (tmp_path / "c.csv").exists()


def test_plots_of_nothing_end_with_exit_code_2(call, tmp_path: Path) -> None:
    code, printed = call("plot-shots", "--checkpoints", tmp_path, "--out", tmp_path / "s.png")
    assert code == 2
    assert "resad-multishot" in printed
    code, printed = call("plot-classes", "--csv", tmp_path / "x.csv", "--out", tmp_path / "c.png")
    assert code == 2
    code, printed = call("plot-classes", "--worst", "0")
    assert code == 2


def test_align_chooses_images_that_evaluate_can_use(call, trees: Path) -> None:
    code, printed = call(
        "align", "--dataset", "visa", "--data-root", trees, "--category", "candle", "--out", trees / "r",
        "--count", "3", "--backbone", "resnet18", "--weights", "random", "--image-size", "64",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0, printed
    assert np.load(trees / "r/indices3/visa/candle_knn_indices.npy").shape == (6, 3)
