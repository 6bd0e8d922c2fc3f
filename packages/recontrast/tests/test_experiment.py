from dataclasses import replace
from pathlib import Path

import pytest

import recontrast
from adcommon.data import load_splits
from adcommon.errors import BadValue
from adcommon.testing.trees import make_folder, make_mvtec

SMALL = replace(
    recontrast.RECIPES["own"],
    backbone="test_efficientnet",
    image_size=64,
    batch_size=4,
    iterations=2,
    calibration_share=0.3,
    evaluate_every=2,
    protocol="standard",
)


@pytest.mark.slow
def test_fit_trains_a_model_per_category_and_says_which_data_it_was(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"))
    splits = load_splits("mvtec", tmp_path, ("bottle", "cable"))
    run = recontrast.fit(SMALL, splits, out=tmp_path / "run", device="cpu", weights="random", cache=False)
    assert [(row["dataset"], row["category"]) for row in run.rows] == [
        ("mvtec", "bottle"),
        ("mvtec", "cable"),
    ]
    assert sorted(run.models) == ["bottle", "cable"]
    with pytest.raises(BadValue, match="bottle, cable"):
        _ = run.model
    one = recontrast.fit(
        replace(SMALL, multiclass=True), splits, out=tmp_path / "one", device="cpu", weights="random"
    )
    assert one.model.method == "recontrast"


@pytest.mark.slow
def test_fit_on_own_images_leaves_a_model_that_predicts(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "photos", good=12)
    split = load_splits("folder", images)["photos"]
    how = {"device": "cpu", "weights": "random", "false_alarm_rate": 0.5}
    run = recontrast.fit(SMALL, split, out=tmp_path / "run", **how)
    result = run.model.predict(next(images.rglob("*.png")))
    assert result.threshold is not None
    assert result.is_anomalous == (result.score > result.threshold)
    with pytest.raises(BadValue, match=r"adcommon\.folder"):
        recontrast.fit(SMALL, {}, out=tmp_path / "none")
