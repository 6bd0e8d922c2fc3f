import json
from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.data import DATASETS
from adcommon.errors import BadValue
from adcommon.io.files import plain
from adcommon.io.schema import build
from realnet.recipes import MVTEC, OWN, QUICKSTART, RECIPES, Recipe

MVTEC_C = RECIPES["mvtec_c"]


def test_the_papers_recipes_differ_in_the_dataset_alone() -> None:
    papers = [RECIPES[name] for name in ("mpdd", "btad", "visa")]
    assert [replace(recipe, dataset="mvtec") for recipe in papers] == [MVTEC] * 3
    assert all(recipe.dataset in DATASETS for recipe in RECIPES.values())


def test_the_papers_values() -> None:
    assert MVTEC.structure == ("layer1:256@4", "layer2:512@8", "layer3:512@16", "layer4:256@32")
    assert MVTEC.modes() == (("max", 256), ("mean", 256))
    assert (MVTEC.epochs, MVTEC.batch_size, MVTEC.lr, MVTEC.seed) == (1000, 16, 1e-4, 100)
    assert MVTEC.shares() == {"normal": 0.5, "sdas": 0.5}
    assert (MVTEC.sdas_opacity, MVTEC.dtd_opacity) == ((0.5, 1.0), (0.2, 1.0))
    assert MVTEC_C.structure == ("layer1:256+layer2:512@4", "layer3:512+layer4:256@16")


def test_own_data_needs_no_download_and_gets_a_threshold() -> None:
    assert OWN.shares() == {"normal": 0.5, "textures": 0.5}
    assert OWN.calibration_share > 0
    assert not OWN.keep_best
    assert QUICKSTART.shares() == OWN.shares()


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({"anomaly_source": "dtd", "normal_share": 0.25}, {"normal": 0.25, "dtd": 0.75}),
        ({"anomaly_source": "both"}, {"normal": 0.5, "sdas": 0.25, "dtd": 0.25}),
        ({"anomaly_source": "both", "sdas_share": 1.0}, {"normal": 0.5, "sdas": 0.5}),
        ({"anomaly_source": "auto", "sdas_dir": Path("s")}, {"normal": 0.5, "sdas": 0.5}),
        ({"anomaly_source": "auto", "dtd_dir": Path("d")}, {"normal": 0.5, "dtd": 0.5}),
        (
            {"anomaly_source": "auto", "sdas_dir": Path("s"), "dtd_dir": Path("d")},
            {"normal": 0.5, "sdas": 0.25, "dtd": 0.25},
        ),
        ({"anomaly_source": "auto"}, {"normal": 0.5, "textures": 0.5}),
        (
            {"anomaly_source": "auto", "image_share": 0.25},
            {"normal": 0.5, "textures": 0.375, "images": 0.125},
        ),
    ],
)
def test_sources_of_anomalies_share_what_is_not_normal(changes, shares) -> None:
    assert replace(MVTEC, **changes).shares() == shares


@pytest.mark.parametrize("recipe", [MVTEC, replace(OWN, sdas_dir=Path("samples"), iterations=3)])
def test_a_recipe_survives_its_models_config(recipe: Recipe) -> None:
    assert build(Recipe, json.loads(json.dumps(plain(recipe))), "config.json") == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 200}, r"image_size is 200; expected a multiple of 128"),
        ({"image_size": 64}, r"multiple of 128"),
        ({"batch_size": 0}, "batch_size is 0; expected a whole number from 1"),
        ({"iterations": 0}, "iterations is 0"),
        ({"channel_mult": ()}, "channel_mult is"),
        ({"hidden_ratio": 0.3}, r"block1 \(layer1:256@4\) has 256 channels.*76 wide"),
        ({"rrs_modes": ("max",)}, "rrs_modes has 'max'; expected max:, mean: or unranked:CHANNELS"),
        ({"rrs_modes": ("std:3",)}, "rrs_modes has 'std:3'"),
        ({"rrs_modes": ()}, "rrs_modes is empty"),
        ({"rrs_modes": ("max:2000",)}, "all 1536 channels: --rrs-modes max:1536"),
        ({"pool": (16, 300)}, "--pool 256"),
        ({"normal_share": 1.0}, "normal_share is 1.0; expected a finite number from 0 below 1"),
        ({"sdas_share": 1.5}, "sdas_share is 1.5; expected a finite number from 0 to 1"),
        ({"dtd_opacity": (0.9, 0.2)}, "dtd_opacity is 0.9 to 0.2"),
        ({"meta_train": Path("train.json")}, "--meta-train and --meta-test go together"),
    ],
)
def test_values_that_would_fail_later_are_refused(changes, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        replace(MVTEC, **changes)


def test_sizes_of_128_and_512_pixels_and_a_simple_network_are_accepted() -> None:
    assert replace(MVTEC, image_size=128).image_size == 128
    assert replace(MVTEC, image_size=512).image_size == 512
    assert replace(MVTEC, reconstruction="simple", hidden_ratio=0.3).reconstruction == "simple"
    assert replace(MVTEC_C, image_size=64, pool=8).image_size == 64
