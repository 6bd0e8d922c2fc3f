from dataclasses import replace

import numpy as np
import pytest
import torch

from adcommon.errors import BadValue
from baselines.padim.model import build, draw_channels, fitted
from baselines.padim.recipes import OWN, RECIPES


def test_the_model_is_the_papers_equation_on_the_papers_features(padim_recipe, images) -> None:
    """Against a plain version: one image, one position after the other."""
    recipe = replace(padim_recipe, prior=0.0)
    model = build(recipe, weights="random")
    model.fit(images.split(4), recipe)
    fine, *coarser = model.features.pyramid(images)
    grid = fine.shape[2]
    all_channels = np.concatenate(
        [
            fine.numpy(),
            *(np.kron(level.numpy(), np.ones((1, 1, 2**n, 2**n))) for n, level in enumerate(coarser, 1)),
        ],
        1,
    )
    features = all_channels[:, list(model.channels)]
    got = model(images).numpy()
    assert got.shape == (6, grid, grid)
    for row, column in [(0, 0), (3, 9), (15, 15)]:
        normal = features[:, :, row, column]
        inverse = np.linalg.inv(np.cov(normal.T) + recipe.epsilon * np.eye(recipe.features))
        away = normal - normal.mean(0)
        wanted = np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away))
        np.testing.assert_allclose(got[:, row, column], wanted, rtol=2e-3)


def test_batches_do_not_matter(padim_recipe, images) -> None:
    one, other = (build(padim_recipe, weights="random") for _ in range(2))
    one.fit([images], padim_recipe)
    other.fit(images.split(2), padim_recipe)
    torch.testing.assert_close(one(images), other(images), rtol=1e-3, atol=1e-3)


def test_the_seed_draws_the_channels(padim_recipe) -> None:
    first, again, other = (draw_channels(448, replace(padim_recipe, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert first == sorted({*first})
    assert len(first) == 20
    assert draw_channels(5, replace(padim_recipe, features=None)) == [0, 1, 2, 3, 4]
    with pytest.raises(BadValue, match=r"have 19 channels; expected at most --features 19"):
        draw_channels(19, padim_recipe)


def test_channels_that_nobody_chose_are_as_many_as_there_are() -> None:
    assert all(fitted(recipe) is recipe for recipe in RECIPES.values())
    recipe = replace(OWN, backbone="resnet18")
    assert fitted(recipe).features == 64 + 128 + 256
    assert fitted(recipe, ["features"]) is recipe
