from dataclasses import replace

from baselines import padim


def test_fit_makes_one_model_for_each_category(padim_recipe, splits, tmp_path) -> None:
    recipe = replace(padim_recipe, dataset="folder")
    run = padim.fit(recipe, splits, out=tmp_path / "run", device="cpu", weights="random", cache=False)
    assert list(run.models) == ["bottle", "cable"]
    assert [(row["method"], row["category"], row["dataset"]) for row in run.rows] == [
        ("padim", "bottle", "mvtec"),
        ("padim", "cable", "mvtec"),
    ]
    assert padim.RECIPES["small"].dataset == "folder"
