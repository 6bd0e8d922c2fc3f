from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Generator

from adcommon.data.augment import turns
from adcommon.models.neighbours import nearest_distances
from baselines.patchcore.model import build, drawn


def fitted(recipe, images):
    model = build(recipe, weights="random")
    model.fit(images.split(4), recipe, len(images))
    return model


def test_distances_are_those_to_the_nearest_patch(patchcore_recipe, images) -> None:
    model = fitted(patchcore_recipe, images)
    assert len(model.memory) == round(0.1 * 6 * 64)
    distances, patches = model(images)
    neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(model.memory.numpy())
    wanted, _ = neighbours.kneighbors(patches.flatten(0, 2).numpy())
    np.testing.assert_allclose(distances.flatten().numpy(), wanted[:, 0], rtol=1e-3, atol=1e-2)


def test_cosine_distances(patchcore_recipe, images) -> None:
    model = fitted(replace(patchcore_recipe, distance="cosine"), images)
    distances, patches = model(images)
    wanted = 1 - (patches.flatten(0, 2) @ model.memory.T).amax(dim=1)
    torch.testing.assert_close(distances.flatten(), wanted, atol=1e-6, rtol=0)


def test_the_reweighted_score_is_equation_7(patchcore_recipe, images) -> None:
    """Image by image, as it is written."""
    model = fitted(patchcore_recipe, images[:4])
    distances, patches = model(images)
    memory = model.memory.double().numpy()
    wanted = []
    for image in patches.double().numpy():
        rows = image.reshape(-1, image.shape[-1])
        table = np.linalg.norm(rows[:, None] - memory[None], axis=2)
        star = table.min(axis=1).argmax()
        nearest = table[star].argmin()
        around = np.linalg.norm(memory - memory[nearest], axis=1).argsort()[:3]
        support = np.exp(table[star, around] - table[star, around].max())
        here = np.exp(table[star, nearest] - table[star, around].max())
        wanted.append((1 - here / support.sum()) * table[star, nearest])
    got = model.reweighted(distances, patches, 3)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-3)


def test_a_memory_of_one_patch_still_scores(patchcore_recipe, images) -> None:
    model = fitted(replace(patchcore_recipe, coreset=0.001), images)
    assert len(model.memory) == 1
    assert model.reweighted(*model(images), 9).tolist() == [0.0] * 6


@pytest.mark.parametrize(("candidates", "kept"), [(0, 384), (60, 60), (100_000, 384)])
def test_candidates_are_drawn_evenly(patchcore_recipe, images, candidates, kept) -> None:
    recipe = replace(patchcore_recipe, candidates=candidates, coreset=1.0)
    assert len(fitted(recipe, images).memory) == kept


def test_so_many_patches_of_each_image() -> None:
    patches = torch.arange(2 * 4 * 4 * 1.0).reshape(2, 4, 4, 1)
    some = list(drawn(patches, 5, Generator().manual_seed(0)))
    assert [len(one) for one in some] == [5, 5]
    assert some[0].max() < 16 <= some[1].min()
    assert len(set(some[0].flatten().tolist())) == 5


def test_each_patch_of_the_memory_knows_its_image(patchcore_recipe, images) -> None:
    recipe = replace(patchcore_recipe, coreset=0.5, candidates=0, rotations=2)
    model = build(recipe, weights="random")
    owner = model.fit(images.split(4), recipe, len(images))
    assert owner.shape == (len(model.memory),)
    for place, image in enumerate(images.split(1)):
        others = model.remembering(owner != place)
        assert len(others.memory) < len(model.memory)
        seen = torch.cat([model.patches(turned).flatten(0, 2) for turned in turns(image, 2)])
        found, _ = nearest_distances(model.memory, seen)
        assert (found[owner == place] < 1e-2).all()  # its own patches
        assert (others(image)[0] >= model(image)[0] - 1e-5).all()
