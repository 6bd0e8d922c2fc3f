import csv
import logging
from pathlib import Path

import pytest

from adcommon.errors import BadValue, DatasetNotFound
from resad.metrics import ResADResult
from resad.multishot.analysis import plot_classes, plot_shots
from resad.multishot.charts import ranking
from resad.multishot.tables import SHOT_COLUMNS, epoch_stem, shot_folder, table_text


def result(image: float, pixel: float) -> ResADResult:
    return ResADResult(image, 0.0, 0.0, pixel, 0.0, 0.0, -1.0)


def fill(root: Path, setting: str, shots: int, epoch: int, values: dict[str, float], draw: str = "") -> Path:
    folder = shot_folder(root, setting, shots) / draw
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{epoch_stem(setting, epoch, shots)}_metrics.csv"
    path.write_text(
        table_text({name: result(value, value / 2) for name, value in values.items()}, SHOT_COLUMNS)
    )
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_shots_are_means_over_categories_of_the_last_epoch(tmp_path: Path) -> None:
    for shots, value in ((2, 0.8), (4, 0.9)):
        fill(tmp_path, "mvtec_to_visa", shots, 9, {"candle": 0.1, "pcb1": 0.1})
        fill(tmp_path, "mvtec_to_visa", shots, 10, {"candle": value, "pcb1": value - 0.1})
    plot_shots([tmp_path], ["mvtec_to_visa"], [2, 4], tmp_path / "s.png")
    table = rows(tmp_path / "s.csv")
    assert [(row["metric"], row["shots"], float(row["mean"])) for row in table] == [
        *(
            ("Image AUC", "2", 0.75),
            ("Image AUC", "4", 0.85),
            ("Pixel AUC", "2", 0.375),
            ("Pixel AUC", "4", 0.425),
        ),
    ]
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_draws_and_further_folders_are_samples(tmp_path: Path) -> None:
    fill(tmp_path / "a", "mvtec_to_visa", 2, 0, {"candle": 0.7})
    fill(tmp_path / "a", "mvtec_to_visa", 2, 0, {"candle": 0.8}, "draw2")
    fill(tmp_path / "b", "mvtec_to_visa", 2, 0, {"candle": 0.9})
    plot_shots([tmp_path / "a", tmp_path / "b"], ["mvtec_to_visa"], [2], tmp_path / "s.png")
    first = rows(tmp_path / "s.csv")[0]
    assert (float(first["mean"]), first["samples"]) == (pytest.approx(0.8), "3")
    assert float(first["standard_deviation"]) == pytest.approx(0.1)


def test_missing_folders_are_said_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "mvtec_to_visa", 2, 0, {"candle": 0.7})
    with caplog.at_level(logging.WARNING):
        plot_shots([tmp_path], ["mvtec_to_visa"], [2, 4], tmp_path / "s.png")
    assert f"Warning: {tmp_path / 'mvtec_to_visa_4shot'} not found." in caplog.text
    with pytest.raises(DatasetNotFound, match="resad-multishot"):
        plot_shots([tmp_path], ["visa_to_mvtec"], [2], tmp_path / "t.png")


def test_the_worst_are_named_and_never_all(tmp_path: Path) -> None:
    table = fill(tmp_path, "mvtec_to_visa", 4, 0, {"a": 0.9, "b": 0.5, "c": 0.7, "d": 0.6})
    assert plot_classes(table, "Image AUC", 3, tmp_path / "c.png", "t", "l") == ["c", "d", "b"]
    assert [row["worst"] for row in rows(tmp_path / "c.csv")] == ["false", "true", "true", "true"]
    assert plot_classes(table, "Image AUC", 9, tmp_path / "c.png", "t", "l") == ["c", "d", "b"]
    with pytest.raises(BadValue, match="no column"):
        plot_classes(table, "Image AP", 3, tmp_path / "c.png", "t", "l")
    assert ranking({"x": 0.1, "y": 0.2}) == ["y", "x"]
