"""Rows keep what was measured; tables say what may be compared with what."""

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from adcommon.errors import BadValue
from adcommon.results.rows import markdown, mean_rows, read_results, row, text, write_results
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation


def made(
    category: str,
    image_auroc: float = 0.9,
    *,
    protocol: str = "standard",
    pixel_auroc: float | None = 0.8,
    extra: dict[str, float] | None = None,
    method: str = "recontrast",
    weights: str = "pretrained",
    seed: int = 1,
    selection: str = "last",
) -> dict[str, Any]:
    evaluation = Evaluation(
        category=category,
        protocol=protocol,
        normal=10,
        anomalous=20,
        image_auroc=image_auroc,
        image_ap=0.5,
        image_f1max=float("nan"),
        image_threshold=1.5,
        pixel_auroc=pixel_auroc,
        map_size="256x256",
        extra=extra or {},
    )
    return row(
        evaluation,
        Facts(
            method=method,
            dataset="mvtec",
            setting="one-class",
            backbone="wide_resnet50_2.tv_in1k",
            weights=weights,
            seed=seed,
        ),
        seconds=2.5,
        selection=selection,
    )


def lines_of(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_row_has_every_agreed_key_and_undefined_is_null() -> None:
    entry = made("wood")
    agreed = (
        "method dataset category setting image_auroc image_ap image_f1max pixel_auroc pixel_ap pixel_f1max "
        "aupro aupro_05 protocol backbone weights seed seconds shots selection normal anomalous"
    ).split()
    assert list(entry)[: len(agreed)] == agreed
    assert entry["image_f1max"] is None  # NaN in the evaluation
    assert entry["aupro"] is None  # not measured
    assert (entry["image_auroc"], entry["normal"], entry["map_size"]) == (0.9, 10, "256x256")


def test_certified_intervals_stand_in_rows_tables_and_means(tmp_path: Path) -> None:
    rows = [made("wood", pixel_auroc=0.8), made("tile", pixel_auroc=0.6)]
    rows[0]["certified"] = {"pixel_auroc": [0.78, 0.82]}
    write_results(tmp_path, rows)
    assert list(read_results(tmp_path)[0]["certified"]["pixel_auroc"]) == [0.78, 0.82]
    (mean,) = mean_rows(rows)
    assert mean["certified"]["pixel_auroc"] == pytest.approx([0.69, 0.71])
    table = text(rows)
    assert "80.00 (78.00 to 82.00)" in table
    assert "70.00 (69.00 to 71.00)" in table
    assert "In brackets" in table
    first = next(csv.DictReader((tmp_path / "results.csv").open()))
    assert (first["pixel_auroc_low"], first["pixel_auroc_high"]) == ("0.78", "0.82")


def test_results_round_trip_through_strict_json(tmp_path: Path) -> None:
    rows = [made("wood", 0.1 + 0.2), made("tile", pixel_auroc=None, extra={"image_accuracy": 0.75})]
    write_results(tmp_path, rows)
    content = (tmp_path / "results.json").read_text()
    assert "NaN" not in content
    assert json.loads(content) == rows
    assert read_results(tmp_path) == read_results(tmp_path / "results.json") == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no results at .*; expected the --out folder"),
        ("{", r"cannot read .*results\.json as JSON"),
        ('{"method": 1}', "expected a list of rows"),
        ("[1]", "row 0 is 1; expected an object with fields"),
        ('[{"method": "m", "dataset": "d"}]', "row 0: the field category is missing"),
    ],
)
def test_a_file_that_is_no_results_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(BadValue, match=message):
        read_results(tmp_path)


def test_the_mean_skips_undefined_values_and_says_over_how_many() -> None:
    rows = [made("wood", 0.8, pixel_auroc=None), made("tile", 0.9, pixel_auroc=0.7), made("grid", 0.1)]
    (mean,) = mean_rows(rows)
    assert mean["category"] == "mean"
    assert mean["image_auroc"] == pytest.approx(statistics.mean([0.8, 0.9, 0.1]))
    assert mean["pixel_auroc"] == pytest.approx(0.75)
    assert mean["image_f1max"] is None
    assert (mean["categories"], mean["over"]["pixel_auroc"], mean["over"]["image_f1max"]) == (3, 2, 0)
    assert mean["seconds"] == 7.5
    assert "pixel AUROC: mean over 2 of 3 categories" in text(rows)


def test_protocols_seeds_and_methods_are_never_averaged_together() -> None:
    rows = [
        made(category, value, protocol=protocol, seed=seed, method=method)
        for category in ("wood", "tile")
        for protocol, seed, method, value in (
            ("standard", 1, "recontrast", 0.1),
            ("standard", 2, "recontrast", 0.2),
            ("standard", 1, "uniad", 0.3),
            ("recontrast", 1, "recontrast", 0.4),
        )
    ]
    assert [mean["image_auroc"] for mean in mean_rows(rows)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert mean_rows(rows[:1]) == []


def test_the_table_is_in_percent_aligned_and_without_empty_columns() -> None:
    table = text([made("wood", 0.98765), made("metal_nut", 1.0, pixel_auroc=None)])
    title, header, rule, *body = table.splitlines()
    assert title == "standard protocol, percent"
    assert header.split("  ")[0].strip() == "category"
    assert "image F1-max" not in header
    assert "AUPRO" not in header
    assert lines_of(table)[3:6] == [
        ["wood", "98.77", "50.00", "80.00"],
        ["metal_nut", "100.00", "50.00", "-"],
        ["mean", "99.38", "50.00", "80.00"],
    ]
    assert {len(line) for line in (header, rule, *body[:3])} == {len(header)}


def test_decisions_are_counted_and_their_mean_is_a_share() -> None:
    rates = {"detection_rate": 0.35, "false_alarm_rate": 0.1}
    table = text([made("wood", extra=rates), made("tile", extra=rates)])
    assert "detected  false alarms" in table
    assert table.count("7 of 20       1 of 10") == 2
    assert lines_of(table)[5][-2:] == ["35.00", "10.00"]


def test_published_values_stand_beside_the_papers_own_protocol() -> None:
    published = {"wood": {"image_auroc": 0.99}, "tile": {"image_auroc": 0.95, "aupro": 0.5}}
    standard = [made("wood"), made("tile")]
    own = [made(name, protocol="recontrast", extra={"image_accuracy": 0.7}) for name in ("wood", "tile")]
    first, second = text([*own, *standard], published).split("\n\n")
    assert first.startswith("standard protocol")
    assert "paper" not in first
    assert second.startswith("protocol of recontrast, comparable with no other")
    assert "image_accuracy" in second
    assert lines_of(second)[3][:3] == ["wood", "90.00", "99.00"]
    assert lines_of(second)[5][:3] == ["mean", "90.00", "97.00"]
    assert lines_of(text(standard, published))[3][:3] == ["wood", "90.00", "99.00"]


def test_the_papers_mean_is_over_the_same_categories_or_absent() -> None:
    published = {"wood": {"image_auroc": 0.9}, "tile": {"image_auroc": 0.8}, "mean": {"image_auroc": 0.1}}
    assert lines_of(text([made("wood"), made("grid")], published))[5][1:3] == ["90.00", "-"]
    only_mean = {"mean": {"image_auroc": 0.983}}
    assert lines_of(text([made("wood"), made("tile")], only_mean))[5][1:3] == ["90.00", "98.30"]


def test_random_weights_and_selection_on_the_test_set_are_said_loudly() -> None:
    for write in (text, markdown):
        assert "RANDOM BACKBONE WEIGHTS" in write([made("wood", weights="random")])
        assert "RANDOM" not in write([made("wood", weights="file.pth")])
        assert "selected on the test set" in write([made("wood", selection="best-on-test")])


def test_what_differs_between_rows_becomes_a_column() -> None:
    header = text([made("wood", seed=1), made("wood", seed=2)]).splitlines()[1]
    assert "seed" in header
    assert "method" not in header


def test_markdown_is_a_table_with_the_same_cells(tmp_path: Path) -> None:
    rows = [made("wood", 0.98765), made("tile")]
    table = markdown(rows, {"wood": {"image_auroc": 0.5}}).splitlines()
    assert table[0] == "**Standard protocol, percent**"
    assert table[2].startswith("| category | image AUROC | paper | image AP |")
    assert table[4].startswith("| wood | 98.77 | 50.00 | 50.00 |")
    assert len({line.count("|") for line in table[2:7]}) == 1


def test_the_csv_has_full_precision_means_and_one_column_per_value(tmp_path: Path) -> None:
    write_results(tmp_path, [made("wood", 0.1 + 0.2, extra={"image_accuracy": 0.75}), made("tile", 0.5)])
    with (tmp_path / "results.csv").open(newline="") as file:
        wood, tile, mean = csv.DictReader(file)
    assert float(wood["image_auroc"]) == 0.1 + 0.2
    assert (wood["image_accuracy"], tile["image_accuracy"], tile["aupro"]) == ("0.75", "", "")
    assert math.isclose(float(mean["image_auroc"]), 0.4)


def test_an_empty_result_writes_empty_files(tmp_path: Path) -> None:
    write_results(tmp_path, [])
    assert read_results(tmp_path) == []
    assert text([]) == ""
