from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from resad.multishot import charts
from resad.multishot.charts import WORST, Line, bar_chart, classes_chart, shots_chart


def has_colour(path: Path, colour: str) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = np.array([round(255 * part) for part in to_rgb(colour)])
    return int((np.abs(pixels - wanted).max(axis=2) <= 2).sum())


def test_only_the_worst_are_red(tmp_path: Path) -> None:
    values = {"a": 0.99, "b": 0.95, "c": 0.9, "d": 0.85, "e": 0.8}
    areas = []
    for worst in (1, 3):
        path = tmp_path / f"{worst}.png"
        classes_chart(path, values, worst, "title", "AUROC")
        areas.append(has_colour(path, WORST))
    assert 0 < areas[0] < areas[1]


def test_axes_begin_below_the_lowest_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: figures.append(figure))
    shots_chart(tmp_path / "a.png", [Line("x", False, "royalblue", [(2, 0.52, 0.0), (4, 0.8, 0.0)])], "")
    shots_chart(tmp_path / "b.png", [Line("x", False, "royalblue", [(2, 0.9, 0.0), (4, 0.95, 0.0)])], "")
    classes_chart(tmp_path / "c.png", {"a": 0.3, "b": 0.99}, 1, "t", "l")
    low, usual = (figure.axes[0].get_ylim() for figure in figures[:2])
    assert low[0] == pytest.approx(0.5)
    assert usual == (0.75, 1.0)
    assert figures[2].axes[0].get_xlim()[0] <= 0.28


def test_shots_have_labels_units_and_error_bars_over_samples(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: figures.append(figure))
    line = Line("VisA - Pixel AUROC", True, "forestgreen", [(2, 0.8, 0.02), (8, 0.9, 0.01)])
    shots_chart(tmp_path / "a.png", [line], "3 samples")
    axes = figures[0].axes[0]
    assert axes.get_xlabel() == "Number of Reference Shots"
    assert "standard deviation over 3 samples" in axes.get_ylabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["VisA - Pixel AUROC"]
    assert len(axes.collections) == 1
    assert list(axes.get_xticks()) == [2, 8]


def test_bars_fall_from_left_to_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = []
    monkeypatch.setattr(charts, "_save", lambda figure, path: figures.append(figure))
    bar_chart(tmp_path / "a.png", {"a": 0.2, "b": 0.9, "c": 0.5}, "Image AUC", "Image AUC per Class")
    heights = [bar.get_height() for bar in figures[0].axes[0].patches]
    assert heights == [0.9, 0.5, 0.2]
    assert figures[0].get_size_inches().tolist() == [10, 5]
