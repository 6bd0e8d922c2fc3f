from dataclasses import replace

from baselines import patchcore


def test_fit_makes_one_model_for_each_category(patchcore_recipe, splits, tmp_path) -> None:
    recipe = replace(patchcore_recipe, dataset="folder")
    run = patchcore.fit(recipe, splits, out=tmp_path / "run", device="cpu", weights="random", cache=False)
    assert list(run.models) == ["bottle", "cable"]
    assert [(row["method"], row["category"], row["dataset"]) for row in run.rows] == [
        ("patchcore", "bottle", "mvtec"),
        ("patchcore", "cable", "mvtec"),
    ]
    assert patchcore.RECIPES["small"].dataset == "folder"
