"""The table of the authors' nine scripts, transposed: what each recipe must say."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from adcommon.data import DATASETS
from adcommon.types.arithmetic import Arithmetic
from recontrast.published import PUBLISHED
from recontrast.recipes import CATEGORIES, MVTEC, OWN, RECIPES, Recipe

SCRIPTS = tuple(CATEGORIES)

TABLE = {
    "dataset": ("mvtec", "visa", "oct2017", "aptos", "isic2018", "mvtec", "visa", "mvtec", "visa"),
    "multiclass": (False,) * 5 + (True,) * 2 + (False,) * 2,
    "iterations": (2000, 3000, 1000, 1000, 2000, 5000, 5000, 2000, 4000),
    "batch_size": (16, 16, 32, 32, 32, 16, 16, 16, 16),
    "image_size": (256,) * 9,
    "crop_size": (None,) * 4 + (224,) + (None,) * 4,
    "seed": (111,) * 5 + (1,) * 2 + (111,) * 2,
    "drop_last": (False,) * 5 + (True,) * 4,
    "partial_norm": (None,) * 7 + (5e-4,) * 2,
    "encoder_norm": ("auto", "auto", "eval", "train", "train", "eval", "eval", "train", "train"),
    "encoder_eps": (None,) * 7 + (1e-6,) * 2,
    "decoder_activation": ("relu",) * 5 + ("gelu",) * 2 + ("relu",) * 2,
    "decoder_lr": (2e-3,) * 9,
    "encoder_lr": (1e-5,) * 9,
    "adam_beta1": (0.9,) * 9,
    "adam_beta2": (0.999,) * 9,
    "weight_decay": (1e-5,) * 9,
    "adam_eps": (1e-8,) * 5 + (1e-10,) * 4,
    "amsgrad": (False,) * 5 + (True,) * 2 + (False,) * 2,
    "lr_milestone": (1.0,) * 5 + (0.8,) * 2 + (1.0,) * 2,
    "lr_factor": (1.0,) * 5 + (0.2,) * 2 + (1.0,) * 2,
    "mining_ramp": (0.1,) * 7 + (0.2,) * 2,
    "evaluate_every": (250,) * 5 + (1000,) * 2 + (500,) * 2,
    "map_protocol": ("sum",) * 5 + ("mean",) * 2 + ("sum",) * 2,
    "image_score": ("max", "max", "max", "max", "mean", "top1", "top1", "top1", "max"),
    "reset_every": (0,) * 7 + (500,) * 2,
    "encoder_pause": (0,) * 7 + (99, 0),
    "mask_rule": ("any",) * 9,
    "backbone": ("wide_resnet50_2.tv_in1k",) * 9,
}


@pytest.mark.parametrize("field", TABLE)
def test_recipes_are_those_of_the_authors_scripts(field: str) -> None:
    assert tuple(getattr(RECIPES[script], field) for script in SCRIPTS) == TABLE[field]


@pytest.mark.parametrize(
    ("script", "in_eval"),
    [
        ("mvtec", {"toothbrush", "leather", "grid", "tile", "wood", "screw"}),
        ("visa", {"cashew", "pcb1"}),
        ("oct", {"OCT2017"}),
        ("aptos", set()),
        ("isic", set()),
        ("mvtec_multiclass", set(CATEGORIES["mvtec"])),
        ("visa_multiclass", set(CATEGORIES["visa"])),
        ("mvtec_stable", set()),
        ("visa_stable", set()),
    ],
)
def test_the_encoder_norm_is_in_eval_mode_for_the_authors_categories(script: str, in_eval: set) -> None:
    recipe = RECIPES[script]
    assert {name for name in CATEGORIES[script] if not recipe.trains_encoder_norm(name)} == in_eval
    assert replace(recipe, encoder_norm="train").trains_encoder_norm("grid")
    assert not replace(recipe, encoder_norm="eval").trains_encoder_norm("bottle")


def test_own_data_gets_the_better_behaviour() -> None:
    assert not OWN.trains_encoder_norm("anything")
    assert (OWN.mask_rule, OWN.upright, OWN.protocol) == ("nearest", True, "standard")
    differing = {
        entry.name for entry in fields(Recipe) if getattr(OWN, entry.name) != getattr(MVTEC, entry.name)
    }
    assert differing == {
        "dataset",
        "encoder_norm",
        "encoder_norm_eval",
        "upright",
        "mask_rule",
        "protocol",
        "calibration_share",
        "precision",
        "deterministic",
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_runs_all_categories_of_its_dataset(script: str) -> None:
    categories = CATEGORIES[script]
    assert sorted(categories) == sorted(DATASETS[RECIPES[script].dataset].categories)
    assert len(set(categories)) == len(categories)


@pytest.mark.parametrize("script", PUBLISHED)
def test_published_means_are_the_means_of_the_published_rows(script: str) -> None:
    rows = PUBLISHED[script]
    categories = [name for name in rows if name != "mean"]
    assert set(categories) <= set(CATEGORIES[script])
    if categories and "mean" in rows:
        assert set(categories) == set(CATEGORIES[script])
        for metric, mean in rows["mean"].items():
            values = [rows[name][metric] for name in categories]
            assert sum(values) / len(values) == pytest.approx(mean, abs=1e-4)


def test_every_field_explains_itself() -> None:
    """The docstrings are the help texts; one that is missing would leave a flag unexplained."""
    import inspect

    source = inspect.getsource(Arithmetic) + inspect.getsource(Recipe)
    for entry in fields(Recipe):
        after = source.split(f"\n    {entry.name}: ", 1)[1].split("\n", 1)[1]
        assert after.lstrip().startswith('"""'), entry.name


def test_recipes_and_published_numbers_need_no_torch() -> None:
    code = "import sys, recontrast.recipes, recontrast.published; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("images", "drop_last", "steps"), [(46, False, 360), (46, True, 300), (3, True, 60), (1000, False, 2000)]
)
def test_few_images_are_passed_over_so_often_and_no_more(images: int, drop_last: bool, steps: int) -> None:
    recipe = replace(RECIPES["small"], drop_last=drop_last)
    assert (recipe.epochs, recipe.batch_size) == (60, 8)
    assert recipe.for_images(images).iterations == steps
    assert replace(recipe, epochs=0).for_images(images).iterations == 2000
    assert MVTEC.for_images(images) == MVTEC
