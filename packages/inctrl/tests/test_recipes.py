from dataclasses import asdict
from pathlib import Path

import pytest

from adcommon.errors import BadValue
from adcommon.io.files import plain
from adcommon.io.schema import build
from inctrl.recipes import MVTEC, OWN, RECIPES, VISA, Recipe


def test_the_papers_numbers() -> None:
    assert (MVTEC.lr, MVTEC.epochs, MVTEC.steps_per_epoch, MVTEC.batch_size, MVTEC.seed) == (
        1e-3,
        10,
        100,
        16,
        10,
    )
    assert (MVTEC.layers, MVTEC.image_size, MVTEC.clip_tag) == ((7, 9, 11), 240, "laion400m_e32")
    assert MVTEC.shots == (2, 4, 8)
    assert {name.partition("/")[0] for name in MVTEC.test_datasets} == {
        *("visa", "elpv", "ksdd", "aitex", "brain_mri", "head_ct", "mnist", "cifar10")
    }
    assert (VISA.dataset, VISA.test_datasets) == ("visa", ("mvtec",))


def test_what_only_published_numbers_need_is_off_for_other_data() -> None:
    changed = {name for name, value in asdict(OWN).items() if value != asdict(MVTEC)[name]}
    assert changed >= {"batch_order", "self_reference", "draw_evaluation", "select_epoch", "rgb"}
    assert RECIPES["quickstart"].batch_order == "corrected"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert build(Recipe, plain(recipe), "config.json") == recipe
    lists = Recipe(normal_json_path=(Path("a"),), outlier_json_path=(Path("b"),))
    assert build(Recipe, plain(lists), "config.json") == lists


def test_a_backbone_is_clip_by_its_name() -> None:
    assert Recipe(backbone="ViT-L-14").is_clip
    assert Recipe(backbone="own.json").is_clip
    assert not Recipe(backbone="vit_base_patch16_224.dino").is_clip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1; expected --batch-size 2 or more"),
        ({"shots": ()}, "shots is"),
        ({"shots": (2, 2)}, "different numbers"),
        ({"layers": ()}, "layers is empty"),
        ({"layers": (3, 3)}, "layers are"),
        ({"out_stride": 500}, "out_stride is 500; .* --out-stride 240"),
        ({"epochs": 0}, "epochs is 0"),
        ({"select_epoch": 0}, "select_epoch is 0"),
        ({"reference_seeds": ()}, "reference_seeds is empty"),
        ({"normal_json_path": (Path("a"),)}, "go together"),
        ({"relative": True}, "--batch-order corrected"),
        ({"relative": True, "batch_order": "corrected"}, "read no text"),
        ({"relative": True, "batch_order": "corrected", "shots": (1, 2)}, "--shots 2 or more"),
    ],
)
def test_impossible_values_are_refused(change, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        Recipe(**change)
