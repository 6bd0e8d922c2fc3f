from baselines.padim.recipes import MVTEC, RECIPES, SMALL


def test_the_papers_numbers() -> None:
    assert (MVTEC.backbone, MVTEC.strides, MVTEC.features) == ("wide_resnet50_2.tv_in1k", (4, 8, 16), 550)
    assert (MVTEC.image_size, MVTEC.crop_size, MVTEC.epsilon, MVTEC.blur) == (256, 224, 0.01, 4.0)
    assert MVTEC.prior == 0
    assert RECIPES["mvtec_resnet18"].features == 100


def test_own_images_are_seen_whole_and_get_a_threshold() -> None:
    for name in ("own", "small", "quickstart"):
        recipe = RECIPES[name]
        assert recipe.crop_size is None
        assert recipe.calibration_share > 0
        assert recipe.upright
    assert SMALL.dataset == "folder"
