import sys

import pytest

from adcommon.data.kind import STATISTICS, Kind
from adcommon.results.card import Paper, model_card
from adcommon.types.threshold import Threshold

PAPER = Paper("ReContrast", "Guo et al., arXiv 2306.02602")
CONFIG = {
    "method": "recontrast",
    "dataset": "mvtec",
    "category": "wood",
    "recipe": {"iterations": 2000, "decoder_lr": 2e-3, "crop_size": None},
    "backbone": "resnet18.tv_in1k",
    "threshold": Threshold(value=1.25, false_alarm_rate=0.01, images=120, supported=True),
    "kinds": [Kind(images=60, ranges=dict.fromkeys(STATISTICS, (2.5, 140.2)))],
    "metrics": [
        {
            **{"method": "recontrast", "dataset": "mvtec", "category": "wood", "setting": "one-class"},
            **{"image_auroc": 0.99, "pixel_auroc": None, "protocol": "standard", "seconds": 3.5},
            **{"backbone": "resnet18.tv_in1k", "weights": "pretrained", "seed": 1},
        }
    ],
}


def test_the_card_says_what_how_well_under_which_protocol_and_whose_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/recontrast-mvtec", "--category", "wood"])
    card = model_card(CONFIG, PAPER)
    for part in (
        "# ReContrast: wood",
        "arXiv 2306.02602",
        "CC BY-NC-SA",
        "recontrast-mvtec --category wood",
        "**Standard protocol, percent**",
        "| wood | 99.00 |",
        "greater than 1.25: false-alarm rate 0.01",
        "`decoder_lr`: 0.002",
        "brightness 2.5 to 140, contrast",
        "recontrast-predict IMAGE_OR_FOLDER",
    ):
        assert part in card


def test_what_was_not_done_is_said() -> None:
    bare = model_card(CONFIG | {"threshold": None, "metrics": []}, PAPER)
    assert "No decision threshold is stored." in bare
    assert "Not evaluated." in bare
    assert "What it knows" not in model_card({**CONFIG, "kinds": []}, PAPER)


def test_a_threshold_of_too_few_images_is_said_to_decide_nothing() -> None:
    few = Threshold(value=1.25, false_alarm_rate=0.05, images=6, supported=False)
    card = model_card(CONFIG | {"threshold": few}, PAPER)
    assert (
        "none is called anomalous: a false-alarm rate of 0.05 needs 19 normal images, and there are 6" in card
    )
    assert "greater than 1.25" not in card


def test_the_licence_is_that_of_the_images_the_model_was_trained_on() -> None:
    assert "CC BY 4.0" in model_card(CONFIG | {"trained_on": "visa"}, PAPER)


def test_a_few_shot_model_is_used_with_reference_images() -> None:
    card = model_card(CONFIG | {"setting": "few-shot"}, PAPER)
    assert "--model THIS_FOLDER --references NORMAL_IMAGES" in card
    assert 'ad.load("THIS_FOLDER", references="NORMAL_IMAGES")' in card
    assert "references" not in model_card(CONFIG, PAPER)
