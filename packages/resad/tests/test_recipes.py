from dataclasses import asdict, replace

import pytest

from adcommon.data import DATASETS
from adcommon.errors import BadValue
from adcommon.io.files import plain
from adcommon.io.schema import build
from resad.recipes import (
    ALIASES,
    IMAGEBIND,
    MULTISHOT,
    OWN,
    PAPER,
    RECIPES,
    SETTINGS,
    Recipe,
    split_setting,
)


def test_the_authors_numbers() -> None:
    assert (PAPER.lr, PAPER.weight_decay, PAPER.batch_size, PAPER.epochs) == (1e-5, 5e-4, 32, 100)
    assert (PAPER.flow_batch, PAPER.coupling_layers, PAPER.clamp_alpha, PAPER.pos_embed_dim) == (
        8192,
        10,
        1.9,
        256,
    )
    assert (PAPER.first_stage_epochs, PAPER.num_embeddings, PAPER.fdm_alpha, PAPER.seed) == (
        10,
        1536,
        0.4,
        42,
    )
    assert (MULTISHOT.setting, MULTISHOT.shots, MULTISHOT.epochs) == ("mvtec_to_visa", (2, 4, 6, 8), 20)
    assert (MULTISHOT.flow_batch, MULTISHOT.train_ref_shot) == (4096, 8)
    assert (IMAGEBIND.residual, IMAGEBIND.flow_arch, IMAGEBIND.coupling_layers) == (
        "subtract",
        "flow_model",
        4,
    )
    assert IMAGEBIND.first_stage_epochs == 1


def test_recipes_for_own_data_train_every_level_and_draw_references_that_differ() -> None:
    assert not OWN.reference_replacement
    assert OWN.residual == "subtract"
    cells = (OWN.image_size // 16) ** 2
    assert cells * OWN.batch_size >= OWN.flow_batch
    assert cells * PAPER.batch_size < PAPER.flow_batch


def test_settings_name_datasets_of_the_catalogue_or_known_ones_to_come() -> None:
    names = {name for setting in SETTINGS for name in split_setting(setting)}
    assert names < set(DATASETS)
    assert split_setting("mvtec_to_mvtec3d") == ("mvtec", ALIASES["mvtec3d"])
    assert split_setting("synthetic_to_elpv") == ("synthetic", "elpv")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name: str) -> None:
    assert build(Recipe, plain(asdict(RECIPES[name])), "config.json") == RECIPES[name]


def test_unseen_categories_are_tested_between_epochs() -> None:
    recipe = replace(PAPER, epochs=6, eval_freq=2)
    assert [epoch for epoch in range(6) if recipe.evaluates_after(epoch)] == [1, 3]
    assert not any(replace(recipe, eval_freq=0).evaluates_after(epoch) for epoch in range(6))
    assert recipe.tested_on("mpdd").setting == "visa_to_mpdd"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"setting": "mvtec"}, "TRAIN_to_TEST"),
        ({"shots": (2, 2)}, "different numbers"),
        ({"shots": (0,)}, "shots is"),
        ({"pos_embed_dim": 6}, "multiple of 4"),
        ({"flow_batch": 0}, "flow_batch is 0"),
        ({"pos_beta": 1.0}, "pos_beta is 1.0"),
        ({"fdm_alpha": 1.5}, "fdm_alpha"),
        ({"backbone": "imagebind"}, "--recipe imagebind"),
        ({"feature_levels": 5}, "at most --feature-levels 4"),
        ({"eval_freq": -1}, "eval_freq is -1"),
        ({"reference_seeds": ()}, "reference_seeds"),
    ],
)
def test_impossible_values_are_refused(changed: dict, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        replace(PAPER, **changed)
