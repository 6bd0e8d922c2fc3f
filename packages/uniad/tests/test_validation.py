from dataclasses import replace

import pytest

from adcommon.data import load_splits
from adcommon.models.checkpoint import load_model
from adcommon.training.settings import Settings
from adcommon.types.records import Evaluation
from uniad.detector import make_preprocess
from uniad.validation import Validation, key_metric

SETTINGS = Settings(weights="random", cache=False)


@pytest.fixture
def validation(make_model, mvtec, tiny) -> Validation:
    splits = load_splits("mvtec", mvtec, ("bottle", "cable"))
    return Validation(make_model(), make_preprocess(tiny), splits, replace(tiny, keep_best=True), SETTINGS)


def evaluation(image: float, pixel: float | None) -> Evaluation:
    return Evaluation(
        category="bottle",
        normal=1,
        anomalous=1,
        image_auroc=image,
        image_ap=0.5,
        image_f1max=0.5,
        image_threshold=0.5,
        pixel_auroc=pixel,
    )


def test_the_best_is_chosen_by_pixels_where_there_are_any() -> None:
    assert key_metric([evaluation(0.9, 0.4), evaluation(0.7, 0.6)]) == pytest.approx(0.5)
    assert key_metric([evaluation(0.9, None), evaluation(0.7, None)]) == pytest.approx(0.8)
    assert key_metric([]) is None


def test_the_best_model_is_kept_and_a_worse_one_does_not_replace_it(validation, tmp_path) -> None:
    values = validation.interim(tmp_path / "best")
    assert {"bottle/image_auroc", "cable/pixel_auroc", "cable/aupro"} <= values.keys()
    kept = load_model(tmp_path / "best", "uniad")[1]["reconstruction.input_proj.bias"]
    validation.model.reconstruction.input_proj.bias.data += 1
    resumed = validation.state_dict()
    validation.best = 2.0
    validation.interim(tmp_path / "best")
    assert kept.equal(load_model(tmp_path / "best", "uniad")[1]["reconstruction.input_proj.bias"])
    validation.load_state_dict(resumed)
    assert 0 <= validation.best <= 1


def test_without_the_wish_no_best_model_is_written(validation, tmp_path, tiny) -> None:
    validation.recipe = replace(tiny, keep_best=False)
    validation.interim(tmp_path / "best")
    assert not (tmp_path / "best").exists()


def test_a_category_with_one_kind_of_test_images_has_no_interim_numbers(validation, tmp_path) -> None:
    validation.tests["cable"] = [record for record in validation.tests["cable"] if record.label == 0]
    values = validation.interim(tmp_path / "best")
    assert {name.split("/")[0] for name in values} == {"bottle"}


def test_the_threshold_comes_from_images_kept_out_and_none_means_none(validation, mvtec) -> None:
    assert validation.threshold([]) is None
    held_out = validation.splits["bottle"].train[:3]
    assert validation.threshold(held_out).images == 3
