import torch

from resad.backbone import build_backbone, grids, make_preprocess
from resad.network import imagebind
from resad.recipes import IMAGEBIND, PAPER, Recipe


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
    assert paper.mean == (0.485, 0.456, 0.406)
    assert (tokens.mean, tokens.std) == (imagebind.MEAN, imagebind.STD)
