"""The tables of the papers, and one of them filled again on a tiny tree with MVTec's names."""

import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from adcommon.cli.reproduce import GROUP
from adcommon.data import DATASETS
from adcommon.methods import commands, installed
from adcommon.results.paper import PaperTable
from adcommon.results.rows import MEAN
from adcommon.results.words import METRICS
from adcommon.testing.commands import succeed
from adcommon.testing.trees import make_mvtec
from adcommon.training.recipes import flags_of

PAPERS = ("inctrl", "realnet", "recontrast", "resad", "uniad")
OWN_METRICS = {"image_f1", "image_accuracy", "pro"}
TABLES = [
    pytest.param(method, table, id=f"{method}-{name}")
    for method in PAPERS
    for name, table in installed(GROUP)[method].load().items()
]


@pytest.mark.parametrize(("method", "table"), TABLES)
def test_every_table_speaks_of_what_there_is(method: str, table: PaperTable) -> None:
    recipes = import_module(f"{method}.recipes")
    words = dict(zip(table.flags[::2], table.flags[1::2], strict=False))
    recipe = recipes.RECIPES[words.get("--recipe", table.command.partition("-")[2].replace("-", "_"))]
    assert table.command in commands(method)
    assert table.seed == recipe.seed
    known = {field.name.replace("_", "-") for field in fields(recipe)} | {"recipe", "category"}
    assert {flag.lstrip("-") for flag in flags_of(table.flags)} | set(table.each) <= known
    splits = set(getattr(recipes, "CIFAR10_SPLITS", ()))
    for dataset, categories in table.data.items():
        entry = DATASETS[dataset]
        assert set(categories) <= {*entry.categories, *entry.extra_categories, *splits}
    assert set(table.metrics) <= {*METRICS, *OWN_METRICS}
    assert table.protocol in ("standard", method)
    for (dataset, _), numbers in table.numbers.items():
        assert numbers.keys() <= {*table.data[dataset], MEAN}
        named = {metric.removesuffix("_std") for row in numbers.values() for metric in row}
        assert named <= set(table.metrics)
    spoken = [
        value for numbers in table.numbers.values() for row in numbers.values() for value in row.values()
    ]
    assert all(0 < value <= 1 for value in spoken)


@pytest.mark.slow
def test_a_table_is_filled_again(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "data" / "mvtec_anomaly_detection", categories=("bottle",))
    place = ("--data-root", tmp_path / "data", "--out", tmp_path / "out")
    quick = "--backbone resnet18 --weights random --image-size 64 --iterations 2 --batch-size 4 --device cpu"
    words = ("--table", "mvtec", "--category", "bottle", *place, "--", *quick.split())
    done = succeed("ad", "reproduce", "recontrast", *words)
    assert "1 training of about" in done.stdout
    assert "RANDOM BACKBONE WEIGHTS" in done.stdout
    (table,) = json.loads((tmp_path / "out/recontrast/reproduced.json").read_text())["tables"]
    assert table["recipe"]["iterations"] == 2
    assert {entry["metric"]: entry["paper"] for entry in table["numbers"]} == {
        **{"pixel_auroc": 0.9899, "image_auroc": 1.0, "aupro": 0.9709}
    }
    for entry in table["numbers"]:
        assert entry["difference"] == pytest.approx(entry["ours"] - entry["paper"])
