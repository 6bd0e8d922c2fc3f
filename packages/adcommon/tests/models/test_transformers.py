import pytest
import timm
import torch
import torch.nn.functional as F

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.models.backbones import FeaturePyramid, create_transformer
from adcommon.models.transformers import fitted_positions, token_maps

TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    return timm.create_model(TINY, pretrained=False).eval()


@pytest.fixture(scope="module")
def weights(whole, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(whole.state_dict(), file)
    return str(file)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("layers", [(11,), (2, 5)])
def test_the_maps_are_the_blocks_of_the_whole_network(whole, weights, layers, norm) -> None:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    pyramid = FeaturePyramid(TINY, weights, layers=layers, image_size=224, norm=norm)
    expected = []
    with torch.no_grad():  # block by block, as a transformer is written down
        tokens = whole._pos_embed(whole.patch_embed(images))
        for number, block in enumerate(whole.blocks):
            tokens = block(tokens)
            if number in layers:
                seen = whole.norm(tokens) if norm else tokens
                expected.append(seen[:, 1:].transpose(1, 2).unflatten(2, (14, 14)))
    assert pyramid.strides == (16,) * len(layers)
    assert pyramid.channels == (192,) * len(layers)
    for got, wanted in zip(pyramid(images), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)  # another order of sums
    assert len(pyramid.trunk.network.blocks) == layers[-1] + 1


@pytest.mark.parametrize("side", [64, 224, 320])
def test_positions_are_resampled_to_the_grid_of_the_images(whole, weights, side) -> None:
    trunk = create_transformer(TINY, weights, layers=(0,), image_size=side)
    own, cells = trunk.network.pos_embed, side // 16
    grid = whole.pos_embed[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    wanted = F.interpolate(grid, (cells, cells), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(own[:, 1:], wanted)
    assert torch.equal(own[:, :1], whole.pos_embed[:, :1])


def test_a_network_without_position_embeddings_needs_none() -> None:
    network = timm.create_model("vit_small_patch16_dinov3", pretrained=False, num_classes=0, img_size=32)
    state = network.state_dict()
    assert fitted_positions(state, network) == state
    maps = FeaturePyramid("vit_small_patch16_dinov3", "random", layers=(1,), image_size=64)(
        torch.zeros(1, 3, 64, 64)
    )
    assert [tuple(level.shape) for level in maps] == [(1, 384, 4, 4)]


def test_an_outline_has_no_memory() -> None:
    with torch.device("meta"):
        network = token_maps(TINY, (0, 1), image_size=32, norm=True)
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    ("tag", "layers", "side", "message"),
    [
        (TINY, (), 224, r"layers are \(\); expected rising numbers of 0 to 11"),
        (TINY, (3, 1), 224, r"layers are \(3, 1\)"),
        (TINY, (-1,), 224, "expected rising numbers"),
        (TINY, (12,), 224, "0 to 11"),
        (TINY, (1,), 100, "expected such as --image-size 96"),
        ("resnet18", (1,), 224, "no plain vision transformer"),
        ("swin_tiny_patch4_window7_224", (1,), 224, "no plain vision transformer"),
    ],
)
def test_what_cannot_be_had_is_refused(tag, layers, side, message) -> None:
    with pytest.raises(BadValue, match=message):
        create_transformer(tag, "random", layers=layers, image_size=side)


def test_weights_of_another_network_are_refused(weights) -> None:
    with pytest.raises(WrongCheckpoint, match="wrong shape"):
        create_transformer("vit_small_patch16_224", weights, layers=(1,), image_size=224)
