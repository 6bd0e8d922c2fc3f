import csv
import io

import pytest

from adcommon.errors import BadValue
from adcommon.io.files import csv_columns
from adcommon.results.rows import row
from adcommon.results.spread import spread, spread_tables, together
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation


def result(category: str, auroc: float, seed: int, **other: object) -> dict:
    evaluation = Evaluation(
        category=category,
        normal=1,
        anomalous=1,
        image_auroc=auroc,
        image_ap=float("nan"),
        image_f1max=float("nan"),
        image_threshold=0.0,
    )
    facts = {"method": "m", "dataset": "d", "setting": "one-class", "backbone": "b", "weights": "w"}
    return row(evaluation, Facts(**facts, seed=seed), seconds=1.0) | {"varied": ""} | other


ROWS = [
    result("a", 0.5, seed=0),
    result("b", 0.9, seed=0),
    result("a", 0.7, seed=1),
    result("b", 0.5, seed=1),
]


def test_seeds_are_averaged_and_the_mean_is_that_of_each_runs_mean() -> None:
    lines = {line["category"]: line for line in spread(ROWS)}
    assert lines["a"]["image_auroc"] == pytest.approx(0.6)
    assert lines["a"]["image_auroc_std"] == pytest.approx(0.02**0.5)
    assert lines["mean"]["image_auroc"] == pytest.approx(0.65)
    assert lines["mean"]["image_auroc_std"] == pytest.approx(0.005**0.5)
    assert {line["runs"] for line in lines.values()} == {2}


def test_other_values_than_the_seed_are_kept_apart() -> None:
    lines = spread([result("a", 0.5, seed=0), result("a", 0.7, seed=0, varied="lr=0.1")])
    assert [(line["varied"], line["image_auroc"], line["image_auroc_std"]) for line in lines] == [
        ("", 0.5, None),
        ("lr=0.1", 0.7, None),
    ]


def test_what_a_run_lacks_is_left_out_and_counted() -> None:
    (line,) = spread([result("a", 0.5, seed=0, aupro=0.25), result("a", 0.7, seed=1)])
    assert (line["aupro"], line["aupro_std"], line["aupro_runs"], line["runs"]) == (0.25, None, 1, 2)
    assert (line["pixel_ap"], line["pixel_ap_runs"]) == (None, 0)


def test_tables_are_in_percent_with_deviations_one_for_each_protocol() -> None:
    other = [entry | {"protocol": "uniad"} for entry in ROWS]
    tables = spread_tables(spread([*ROWS, *other]))
    assert [table.title.split(",")[0] for table in tables] == ["protocol standard", "protocol uniad"]
    assert tables[0].lines == [
        ["category", "runs", "image AUROC"],
        ["a", "2", "60.00 ± 14.14"],
        ["b", "2", "70.00 ± 28.28"],
        ["mean", "2", "65.00 ± 7.07"],
    ]


def test_the_csv_has_every_digit() -> None:
    lines = spread(ROWS)
    (first, *_) = csv.DictReader(io.StringIO(csv_columns(lines)))
    assert float(first["image_auroc_std"]) == lines[0]["image_auroc_std"]
    assert first["aupro"] == ""


def test_several_results_are_averaged_together_and_each_run_counts_once() -> None:
    own = [result("a", 0.9, seed=seed, varied="loss=own") for seed in (0, 1)]
    lines = spread(together({"papers": ROWS, "own": own}))
    assert [(line["varied"], line["runs"]) for line in lines if line["category"] == "a"] == [
        ("", 2),
        ("loss=own", 2),
    ]
    with pytest.raises(BadValue, match="papers and again both have a with seed 0"):
        together({"papers": ROWS, "again": ROWS[:1]})
