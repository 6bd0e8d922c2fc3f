from pathlib import Path

import torch

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from resad.backbone import build_backbone, make_preprocess
from resad.features import feature_store
from resad.recipes import Recipe


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
