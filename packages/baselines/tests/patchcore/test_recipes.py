import pytest

from adcommon.errors import BadValue
from baselines.patchcore.recipes import ANOMALYDINO, MVTEC, RECIPES, SMALL, Recipe


def test_the_papers_numbers() -> None:
    assert (MVTEC.backbone, MVTEC.strides, MVTEC.coreset) == ("wide_resnet50_2.tv_in1k", (8, 16), 0.1)
    assert (MVTEC.image_size, MVTEC.crop_size, MVTEC.neighbourhood, MVTEC.neighbours) == (256, 224, 3, 9)
    assert [RECIPES[f"mvtec_{share}"].coreset for share in (25, 1)] == [0.25, 0.01]
    assert (ANOMALYDINO.layers, ANOMALYDINO.distance, ANOMALYDINO.rotations) == ((11,), "cosine", 8)


def test_own_images_are_seen_whole_and_get_a_threshold() -> None:
    for name in ("own", "small"):
        assert RECIPES[name].crop_size is None
        assert RECIPES[name].calibration_share > 0
    assert SMALL.candidates * SMALL.coreset == 5000


@pytest.mark.parametrize(
    "wrong", [{"neighbourhood": 2}, {"coreset": 0.0}, {"coreset": 1.5}, {"rotations": 0}]
)
def test_impossible_values_are_refused(wrong) -> None:
    with pytest.raises(BadValue):
        Recipe(**wrong)
