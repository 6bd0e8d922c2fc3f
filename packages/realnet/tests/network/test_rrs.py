import pytest
import torch
from torch import nn

from realnet.network.rrs import RRS, gather, join, over_processes


def rrs(**changes) -> RRS:
    return RRS(12, **{"modes": (("max", 5), ("mean", 4)), "residual_layers": 1, **changes})


@pytest.mark.parametrize("training", [True, False], ids=["batch statistics", "stored statistics"])
def test_the_choice_is_that_of_normalising_every_pixel(training: bool) -> None:
    network, oracle = rrs().double().train(training), nn.BatchNorm2d(12, momentum=0.9, affine=False).double()
    oracle.train(training)
    residual = torch.rand(3, 12, 8, 8, dtype=torch.float64) * torch.rand(12, 1, 1, dtype=torch.float64)
    network.choose(residual)
    oracle(residual)  # both have statistics of their own now
    best = network.choose(residual)
    normalised = oracle(residual)
    assert torch.equal(best[0], normalised.amax(dim=(2, 3)).topk(5).indices)
    assert torch.equal(best[1], normalised.mean(dim=(2, 3)).topk(4).indices)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.allclose(getattr(network.bn_idx, name), getattr(oracle, name))


def test_channels_come_in_falling_order_of_each_image() -> None:
    residual = torch.zeros(2, 12, 4, 4)
    residual[0, 7], residual[0, 3], residual[1, 0] = 3.0, 2.0, 1.0
    first, _ = rrs().eval().choose(residual)
    assert first[0, :2].tolist() == [7, 3]
    assert first[1, 0] == 0


def test_gathering_takes_each_images_own_channels_twice_if_asked() -> None:
    maps = torch.randn(2, 4, 3, 3)
    got = gather(maps, torch.tensor([[2, 2, 0], [1, 3, 1]]))
    assert torch.equal(got, torch.stack([maps[0, [2, 2, 0]], maps[1, [1, 3, 1]]]))


def test_residuals_meet_on_the_finest_grid() -> None:
    joined = join([torch.ones(1, 2, 4, 4), torch.ones(1, 3, 8, 8)])
    assert joined.shape == (1, 5, 8, 8)
    assert torch.allclose(joined, torch.ones(1, 5, 8, 8))


def test_logits_have_the_size_asked_for_also_of_rectangles() -> None:
    residuals = [torch.rand(2, 8, 8, 16), torch.rand(2, 4, 4, 8)]
    assert rrs()(residuals, (32, 64)).shape == (2, 2, 32, 64)


@pytest.mark.parametrize("stop", [False, True])
def test_gradients_reach_the_residuals_unless_stopped(stop: bool) -> None:
    residual = torch.rand(2, 12, 8, 8, requires_grad=True)
    rrs(stop_grad=stop)([residual], (32, 32)).square().sum().backward()
    assert (residual.grad is None) == stop


def test_statistics_of_equal_shares_are_those_of_the_whole(monkeypatch) -> None:
    shares = torch.randn(2, 3, 100).double()
    moments = []

    def reduce(value: torch.Tensor) -> None:
        moments.append(value.clone())
        value.copy_(sum(torch.stack([share.mean(1), share.square().mean(1)]) for share in shares))

    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    mean, variance = over_processes(shares[0].mean(1), shares[0].var(1, correction=0))
    whole = shares.transpose(0, 1).flatten(1)
    assert torch.allclose(mean, whole.mean(1))
    assert torch.allclose(variance, whole.var(1, correction=0))
