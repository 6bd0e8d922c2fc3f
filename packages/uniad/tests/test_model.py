import pytest
import torch
from torch import nn

from adcommon.errors import BadValue
from uniad.model import Outputs, build, distance, initialise, jitter
from uniad.recipes import CIFAR10, MVTEC


def test_the_paper_model_has_the_published_number_of_parameters() -> None:
    model = build(MVTEC, weights=None)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert (len(trained), sum(p.numel() for p in trained)) == (132, 7_717_392)
    assert model.backbone.channels == 272


def test_cifar_adds_the_fifth_map() -> None:
    assert build(CIFAR10, weights=None).backbone.channels == 720


def test_a_perfect_reconstruction_has_distance_zero_and_distance_grows_with_the_error() -> None:
    features = torch.randn(2, 5, 3, 3)
    assert torch.equal(distance(Outputs(features, features)), torch.zeros(2, 3, 3))
    off = features.clone()
    off[1, :, 2, 0] += torch.tensor([3.0, 0, 4, 0, 0])
    found = distance(Outputs(features, off))
    assert found[1, 2, 0] == pytest.approx(5.0, abs=1e-5)
    assert found.count_nonzero() == 1


def test_jitter_has_the_papers_deviation_for_every_token() -> None:
    tokens = torch.randn(4, 10, 64) * torch.linspace(0.1, 3, 10).view(1, 10, 1)
    noise = torch.randn(4, 10, 64, generator=torch.Generator().manual_seed(0))
    added = jitter(tokens, noise, 20.0) - tokens
    expected = 20 * tokens.norm(dim=2) / 64
    assert torch.allclose(added.std(dim=2) / expected, noise.std(dim=2), atol=1e-4)
    assert torch.equal(jitter(tokens, noise, 0.0), tokens)


def test_noise_acts_in_training_alone_and_follows_its_share(make_model) -> None:
    model, features = make_model(dropout=0.0), torch.randn(1, 24 + 32 + 48, 4, 4)
    model.train()
    assert not torch.equal(*(model.reconstruction(features) for _ in range(2)))
    model.reconstruction.jitter_prob = 0.0
    assert torch.equal(*(model.reconstruction(features) for _ in range(2)))
    model.reconstruction.jitter_prob = 1.0
    model.eval()
    assert torch.equal(*(model.reconstruction(features) for _ in range(2)))


def test_kept_features_give_the_outputs_of_the_images(make_model, images) -> None:
    model = make_model().eval()
    outputs = model(images)
    features = model.features(images)
    assert torch.equal(outputs.features, features)
    assert torch.equal(outputs.rebuilt, model.reconstruction(features))


def test_gradients_reach_every_part_of_the_reconstruction_and_nothing_else(make_model, images) -> None:
    model = make_model().train()
    outputs = model(images)
    (outputs.rebuilt - outputs.features).square().mean().backward()
    assert all(p.grad is not None for p in model.reconstruction.parameters())
    assert all(p.grad is None for p in model.backbone.parameters())


@pytest.mark.parametrize(
    "method", ["xavier_uniform", "xavier_normal", "msra_uniform", "msra_normal", "normal"]
)
def test_start_values_have_the_deviation_of_their_method(method: str) -> None:
    layer = nn.Linear(400, 200)
    initialise(layer, method)
    expected = {"xavier": (2 / 600) ** 0.5, "msra": 400**-0.5, "normal": 0.01}[method.split("_")[0]]
    assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert torch.equal(layer.bias, torch.zeros(200))


def test_a_grid_inside_the_neighbourhood_is_refused(make_model) -> None:
    with pytest.raises(BadValue, match="larger images, or --neighbourhood 3 3"):
        make_model(neighbourhood=(9, 9))
    make_model(neighbourhood=(9, 9), mask_encoder=False, mask_memory=False, mask_previous=False)
