from dataclasses import replace
from typing import Any

import pytest

from adcommon.results.paper import PaperTable, beside, table_beside
from adcommon.results.tables import aligned

TABLE = PaperTable(
    title="D",
    command="a-train",
    each={"category": ("a", "b")},
    seed=0,
    data={"d": ("a", "b")},
    protocol="own",
    metrics=("image_auroc", "pro"),
    numbers={("d", None): {"mean": {"image_auroc": 0.8, "image_auroc_std": 0.01}}},
)


def row(category: str, image_auroc: float, **facts: Any) -> dict[str, Any]:
    known = {"dataset": "d", "protocol": "own", "selection": "last", "shots": None, "seed": 0}
    measured = {"category": category, "image_auroc": image_auroc, "extra": {"pro": image_auroc / 2}}
    return {**known, **measured, **facts}


def numbers(rows: list[dict[str, Any]], table: PaperTable = TABLE) -> dict[tuple[str, str], tuple[Any, ...]]:
    found = beside(rows, table)
    names = ("ours", "deviation", "runs", "paper", "paper_deviation", "difference")
    return {(one["category"], one["metric"]): tuple(one[name] for name in names) for one in found}


def test_ours_stand_beside_the_papers_with_the_difference() -> None:
    seeds = [row("a", 0.6), row("a", 0.8, seed=1), row("b", 0.4), row("b", 0.6, seed=1)]
    others = [row("a", 0.1, protocol="standard"), row("b", 0.2, selection="best-on-test")]
    found = numbers([*seeds, *others], TABLE)
    assert found["a", "image_auroc"] == pytest.approx((0.7, 0.02**0.5, 2, None, None, None))
    assert found["mean", "image_auroc"] == pytest.approx((0.6, 0.02**0.5, 2, 0.8, 0.01, -0.2))
    assert found["b", "pro"] == pytest.approx((0.25, 0.005**0.5, 2, None, None, None))


def test_the_papers_mean_stands_beside_a_mean_over_the_same_categories_only() -> None:
    assert numbers([row("a", 0.5), row("b", 0.5)])["mean", "image_auroc"][3] == 0.8
    more = replace(TABLE, data={"d": ("a", "b", "c")})
    assert numbers([row("a", 0.5), row("b", 0.5)], more)["mean", "image_auroc"][3] is None
    of_each = {name: {"image_auroc": value} for name, value in (("a", 0.9), ("b", 0.6), ("c", 0.1))}
    known = replace(more, numbers={("d", None): {**of_each, "mean": {"image_auroc": 0.5333}}})
    assert numbers([row("a", 0.5), row("b", 0.5)], known)["mean", "image_auroc"][3] == 0.75


def test_datasets_and_numbers_of_references_have_their_own_lines() -> None:
    few = replace(
        TABLE,
        metrics=("image_auroc",),
        data={"d": ("a",), "e": ("a",)},
        numbers={("d", 2): {"a": {"image_auroc": 0.7}}},
    )
    rows = [row("a", 0.5, shots=2), row("a", 0.6, shots=4), row("a", 0.7, shots=2, dataset="e")]
    found = beside(rows, few)
    assert [(one["dataset"], one["shots"], one["paper"]) for one in found] == [
        ("d", 2, 0.7),
        ("d", 4, None),
        ("e", 2, None),
    ]
    text = aligned(table_beside(found, few, ["Of two datasets."]))
    assert "category  dataset  references  runs  image AUROC  paper  difference" in text
    assert "50.00  70.00      -20.00" in text
    assert text.endswith("is not in our notes.\nOf two datasets.")
