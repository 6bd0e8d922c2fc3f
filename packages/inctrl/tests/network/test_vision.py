import pytest
import timm
import torch

from adcommon.errors import BadValue
from inctrl.network.vision import VisionTower


def test_the_token_is_the_networks_own_pooled_feature(vision) -> None:
    images = torch.randn(2, 3, 64, 64)
    token, *levels = vision.tower(images)
    torch.testing.assert_close(token.flatten(1), vision.tower.network(images))
    assert [tuple(level.shape) for level in levels] == [(2, 32, 4, 4), (2, 48, 4, 4)]
    assert (vision.tower.embed, vision.tower.channels, vision.tower.grid) == (256, (32, 48), (4, 4))


def test_finer_maps_are_averaged_over_the_cells_of_the_grid(vision) -> None:
    images = torch.randn(1, 3, 64, 64)
    _, fine, _ = vision.tower(images)
    _, maps = vision.tower.network.forward_intermediates(images, indices=[2, 3])
    torch.testing.assert_close(fine, torch.nn.functional.avg_pool2d(maps[0], 2))


def test_a_vision_transformer_works_too() -> None:
    tower = VisionTower("vit_tiny_patch16_224", "random", layers=(3, 6), image_size=224, out_stride=16)
    assert [tuple(part.shape[1:]) for part in tower(torch.randn(1, 3, 224, 224))] == [
        (192, 1, 1),
        (192, 14, 14),
        (192, 14, 14),
    ]


def test_random_weights_are_always_the_same_and_never_learn(vision) -> None:
    again = VisionTower("test_efficientnet", "random", layers=(3, 4), image_size=64, out_stride=16)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), vision.tower.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert timm.__version__


def test_layers_that_do_not_exist_are_an_error() -> None:
    with pytest.raises(BadValue, match=r"layers 1 to 5, asked for 3, 9, .* --layers 3 4 5"):
        VisionTower("resnet18", "random", layers=(3, 9), image_size=64, out_stride=16)
