from dataclasses import asdict, replace

import pytest

from adcommon.errors import BadValue
from adcommon.io.files import plain
from adcommon.io.schema import build
from realnet.diffusion.recipes import (
    CLASSIFIER_RECIPES,
    CLASSIFIERS,
    DIFFUSION_RECIPES,
    SAMPLE_RECIPES,
    UNETS,
    DiffusionRecipe,
    SampleRecipe,
)


def test_the_defaults_are_the_papers() -> None:
    diffusion = DIFFUSION_RECIPES["mvtec"]
    assert (diffusion.batch_size, diffusion.chunk_size, diffusion.accumulate) == (20, 5, 3)
    assert (diffusion.lr, diffusion.clip_norm, diffusion.ema_decay) == (1e-4, 1.0, 0.9999)
    assert (diffusion.epochs, diffusion.evaluate_every, diffusion.validation_batches) == (1000, 10, 7)
    assert (diffusion.width, diffusion.depth, diffusion.head_width) == (256, 2, 64)
    assert diffusion.channel_mult == (1, 1, 2, 2, 4, 4)
    classifier = CLASSIFIER_RECIPES["mvtec"]
    assert (classifier.width, classifier.batch_size, classifier.evaluate_every) == (128, 40, 5)
    sampling = SAMPLE_RECIPES["mvtec"]
    assert (sampling.batch_size, sampling.respacing, sampling.sample_number) == (16, "ddim20", 256)
    assert sampling.strengths == (0.1, 0.2)


@pytest.mark.parametrize("name", ["visa", "mpdd", "btad"])
def test_the_papers_recipes_differ_in_their_dataset_alone(name: str) -> None:
    for recipes in (DIFFUSION_RECIPES, CLASSIFIER_RECIPES, SAMPLE_RECIPES):
        assert recipes[name] == replace(recipes["mvtec"], dataset=name)


def test_the_three_stages_have_the_same_recipes_and_sizes() -> None:
    assert list(DIFFUSION_RECIPES) == list(CLASSIFIER_RECIPES) == list(SAMPLE_RECIPES)
    for name, recipe in DIFFUSION_RECIPES.items():
        assert recipe.image_size == CLASSIFIER_RECIPES[name].image_size
        assert SAMPLE_RECIPES[name].network in UNETS.keys() & CLASSIFIERS.keys()
        assert (recipe.pretrained is None) == (recipe.width != 256)


@pytest.mark.parametrize("recipe", [*DIFFUSION_RECIPES.values(), *CLASSIFIER_RECIPES.values()])
def test_a_recipe_survives_the_way_through_json(recipe) -> None:
    assert build(type(recipe), plain(asdict(recipe)), "config.json") == recipe


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (DiffusionRecipe, {"accumulate": 0}, "accumulate is 0"),
        (DiffusionRecipe, {"ema_decay": 1.0}, "ema_decay is 1.0"),
        (DiffusionRecipe, {"validation_strengths": (0.0, 0.1)}, "expected three"),
        (SampleRecipe, {"strength": (0.2, 0.1)}, "strength is 0.2 0.1"),
        (SampleRecipe, {"strength": (-0.1,)}, "strength is"),
        (SampleRecipe, {"sample_number": 0}, "sample_number is 0"),
        (SampleRecipe, {"quality": 0}, "quality is 0"),
    ],
)
def test_values_that_would_fail_later_are_refused(make, changes: dict, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        make(**changes)


def test_the_strength_depends_on_the_sampler_unless_it_is_given() -> None:
    assert SampleRecipe(sampler="ddim").strengths == (0.01, 0.03)
    assert SampleRecipe(sampler="ddim", strength=(0.5,)).strengths == (0.5, 0.5)
