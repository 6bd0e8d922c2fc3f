from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.errors import BadValue
from adcommon.io.files import plain
from adcommon.io.schema import build
from uniad.recipes import CIFAR10, MVTEC, OWN, RECIPES, Recipe


def test_the_papers_values_on_mvtec() -> None:
    assert (MVTEC.backbone, MVTEC.strides) == ("tf_efficientnet_b4.aa_in1k", (2, 4, 8, 16))
    assert (MVTEC.image_size, MVTEC.batch_size, MVTEC.epochs, MVTEC.seed) == (224, 8, 1000, 133)
    assert (MVTEC.lr, MVTEC.weight_decay, MVTEC.lr_step, MVTEC.lr_gamma) == (1e-4, 1e-4, 800, 0.1)
    assert (MVTEC.hidden_dim, MVTEC.heads, MVTEC.encoder_layers, MVTEC.decoder_layers) == (256, 8, 4, 4)
    assert (MVTEC.feedforward, MVTEC.dropout, MVTEC.clip_norm) == (1024, 0.1, 0.1)
    assert (MVTEC.neighbourhood, MVTEC.masked) == ((7, 7), (True, True, True))
    assert (MVTEC.jitter_scale, MVTEC.jitter_prob, MVTEC.image_score) == (20.0, 1.0, "max")


def test_cifar_differs_as_the_papers_files_say() -> None:
    assert CIFAR10 == replace(
        MVTEC,
        dataset="cifar10",
        multiclass=False,
        strides=(2, 4, 8, 16, 32),
        interpolation="lanczos",
        batch_size=16,
        seed=131,
        image_score="mean",
    )


def test_the_reference_mirrors_low_aurocs_and_no_recipe_does() -> None:
    assert not any(recipe.reference_auroc for recipe in RECIPES.values())


def test_own_data_get_a_threshold_and_no_oracle() -> None:
    assert OWN.calibration_share > 0
    assert not OWN.keep_best


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name: str) -> None:
    assert build(Recipe, plain(RECIPES[name]), "config.json") == RECIPES[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 200}, "multiple of 16"),
        ({"image_size": 240, "strides": (4, 32)}, "multiple of 32"),
        ({"epochs": 0}, "epochs is 0"),
        ({"iterations": 0}, "iterations is 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"heads": 3}, "hidden_dim is 256; expected a multiple of 3"),
        ({"position": "sine", "heads": 1, "hidden_dim": 7}, "expected a multiple of 2"),
        ({"hue": 0.6}, r"at most 0\.5 turns"),
        ({"pool": 500}, "at most the side of the images: --pool 224"),
        ({"meta_train": Path("train.json")}, "go together"),
    ],
)
def test_impossible_values_are_refused_at_once(change: dict, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        replace(MVTEC, **change)


def test_augmentation_is_what_changes_images() -> None:
    assert not MVTEC.augments
    for change in ({"hflip": True}, {"vflip": True}, {"rotate": True}, {"colorjitter": 0.5}):
        assert replace(MVTEC, **change).augments
