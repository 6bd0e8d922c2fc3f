import pytest
import torch

from realnet.diffusion import store
from realnet.diffusion.network.classifier import AttentionPool
from realnet.diffusion.recipes import CLASSIFIER_RECIPES


def test_pooling_equals_attention_written_out_kind_by_kind() -> None:
    torch.manual_seed(0)
    pool, x = AttentionPool(6, 128, 5).double(), torch.randn(2, 128, 2, 3, dtype=torch.float64)
    flat = x.flatten(2)
    tokens = torch.cat([flat.mean(2, keepdim=True), flat], dim=2) + pool.positional_embedding
    query, key, value = pool.qkv_proj(tokens).split(128, dim=1)
    seen = []
    for head in (slice(0, 64), slice(64, 128)):
        weights = torch.softmax(query[:, head].transpose(1, 2) @ key[:, head] / 8, dim=2)
        seen.append(value[:, head] @ weights.transpose(1, 2))
    expected = pool.c_proj(torch.cat(seen, dim=1))[:, :, 0]
    torch.testing.assert_close(pool(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "millions"), [("mvtec", 53.591055), ("small128", 3.2), ("small64", 2.5), ("tiny", 1.74)]
)
def test_the_sizes_are_those_of_the_reference(name: str, millions: float) -> None:
    classes = 15 if name == "mvtec" else 3
    with torch.device("meta"):
        network = store.build(CLASSIFIER_RECIPES[name], classes)
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=1e-9 if name == "mvtec" else 0.02)


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    classifier = store.build(CLASSIFIER_RECIPES["tiny"], 3).eval()
    images, times = torch.randn(3, 3, 32, 32), torch.tensor([3.0, 50.0, 900.0])
    order = [2, 0, 1]
    torch.testing.assert_close(classifier(images, times)[order], classifier(images[order], times[order]))
