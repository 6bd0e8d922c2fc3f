import pytest
import torch

from realnet.diffusion import store
from realnet.diffusion.recipes import DIFFUSION_RECIPES


@pytest.fixture
def unet():
    torch.manual_seed(0)
    made = store.build(DIFFUSION_RECIPES["tiny"], 3).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


@torch.no_grad()
def test_a_new_network_sees_no_noise_and_a_middling_variance() -> None:
    network = store.build(DIFFUSION_RECIPES["tiny"], 3)
    output = network(torch.randn(2, 3, 32, 32), torch.tensor([0.0, 999.0]), torch.tensor([0, 2]))
    assert output.shape == (2, 6, 32, 32)
    assert not output.any()


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other(unet) -> None:
    images, times, labels = torch.randn(3, 3, 32, 32), torch.tensor([3.0, 50.0, 900.0]), torch.arange(3)
    order = [2, 0, 1]
    torch.testing.assert_close(
        unet(images, times, labels)[order], unet(images[order], times[order], labels[order])
    )


@torch.no_grad()
def test_time_and_class_matter(unet) -> None:
    images = torch.randn(1, 3, 32, 32).expand(3, -1, -1, -1)
    output = unet(images, torch.tensor([3.0, 3.0, 900.0]), torch.tensor([0, 1, 0]))
    assert not torch.allclose(output[0], output[1])
    assert not torch.allclose(output[0], output[2])


@torch.no_grad()
def test_channels_last_and_bf16_stay_near_the_plain_network(unet) -> None:
    images, times, labels = torch.randn(2, 3, 32, 32), torch.tensor([3.0, 900.0]), torch.tensor([0, 1])
    plain = unet(images, times, labels)
    laid_out = unet.to(memory_format=torch.channels_last)
    torch.testing.assert_close(laid_out(images, times, labels), plain, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = laid_out(images, times, labels).float()
    assert (rounded - plain).abs().mean() < 0.02 * plain.abs().mean()


@pytest.mark.parametrize(
    ("name", "millions"), [("mvtec", 552.829446), ("small128", 11.5), ("small64", 7.8), ("tiny", 1.42)]
)
def test_the_sizes_are_those_of_the_reference(name: str, millions: float) -> None:
    classes = 15 if name == "mvtec" else 3
    with torch.device("meta"):
        network = store.build(DIFFUSION_RECIPES[name], classes)
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=1e-9 if name == "mvtec" else 0.01)
