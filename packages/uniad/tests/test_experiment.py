from dataclasses import replace
from pathlib import Path

import uniad
from adcommon.data import load_splits


def test_fit_trains_one_model_for_all_categories_or_one_for_each(mvtec: Path, tiny) -> None:
    splits = load_splits("mvtec", mvtec, ("bottle", "cable"))
    recipe = replace(tiny, dataset="folder", iterations=1, protocol="standard")
    run = uniad.fit(recipe, splits, out=mvtec / "one", device="cpu", weights="random", cache=False)
    assert [(row["dataset"], row["category"]) for row in run.rows] == [
        ("mvtec", "bottle"),
        ("mvtec", "cable"),
    ]
    assert list(run.models) == ["all"]
    assert run.model.predict(splits["cable"].test[0].image).score > 0
    each = replace(recipe, multiclass=False)
    run = uniad.fit(each, splits, out=mvtec / "each", device="cpu", weights="random", cache=False)
    assert list(run.models) == ["bottle", "cable"]
    assert {row["setting"] for row in run.rows} == {"one-class"}
