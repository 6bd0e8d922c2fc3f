from dataclasses import replace
from pathlib import Path

import torch

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from resad.backbone import build_backbone, feature_store, grids, make_preprocess
from resad.network import imagebind
from resad.recipes import IMAGEBIND, PAPER, RECIPES, Recipe


def test_grids_are_those_of_the_maps(recipe: Recipe) -> None:
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    expected = grids(backbone, preprocess)
    maps = backbone(torch.zeros(1, 3, preprocess.size, preprocess.size))
    assert [(level.shape[1], level.shape[2]) for level in maps] == list(
        zip(expected.channels, expected.sides, strict=True)
    )
    assert expected.cells == (64, 16)


def test_each_backbone_sees_images_as_its_weights_did() -> None:
    paper, tokens = make_preprocess(PAPER), make_preprocess(IMAGEBIND)
    assert (paper.fit, paper.interpolation, paper.size) == ("short_side", "bicubic", 224)
    assert {make_preprocess(RECIPES[name]).fit for name in ("own", "imagebind_own", "quickstart")} == {
        "stretch"
    }
    assert paper.mean == (0.485, 0.456, 0.406)
    assert (tokens.mean, tokens.std) == (imagebind.MEAN, imagebind.STD)


def test_what_fits_is_computed_at_once_and_what_does_not_one_by_one(trees: Path, recipe: Recipe) -> None:
    records = load_splits("visa", trees, ("candle",))["candle"].train
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    passes: list[int] = []
    backbone.register_forward_hook(lambda module, images, maps: passes.append(len(images[0])))
    full = feature_store(backbone, AnomalyDataset(records, preprocess), 2**28)
    assert passes == [6]
    lazy = feature_store(backbone, AnomalyDataset(records, preprocess), 0)
    assert passes == [6]
    for a, b in zip(full.batch([4, 1]), lazy.batch([4, 1]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert passes == [6, 1, 1]
    first, second = lazy.batch([4, 1])[0], lazy.batch([0, 1, 2, 4])[0]
    assert torch.equal(first[0], second[3])


def test_the_layout_changes_rounding_only(recipe: Recipe) -> None:
    images = torch.randn(2, 3, recipe.image_size, recipe.image_size)
    plain = build_backbone(replace(recipe, channels_last=False), "random")(images)
    last = build_backbone(recipe, "random")(images)
    assert [maps.is_contiguous(memory_format=torch.channels_last) for maps in (last[0], plain[0])] == [
        True,
        False,
    ]
    for ours, theirs in zip(last, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
