import pytest
import torch

from realnet.diffusion.network.ema import Ema


@pytest.fixture
def network() -> torch.nn.Linear:
    made = torch.nn.Linear(2, 1)
    torch.nn.init.zeros_(made.weight)
    return made


def test_the_average_begins_at_the_initial_weights_and_forgets_them_slowly(network) -> None:
    ema = Ema(network, 0.9)
    torch.nn.init.ones_(network.weight)
    for updates in range(1, 4):
        ema.update()
        assert ema.network.weight[0, 0].item() == pytest.approx(1 - 0.9**updates, rel=1e-6)
    assert not ema.network.training
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())


def test_warm_up_forgets_the_initial_weights_at_once(network) -> None:
    plain, warm = Ema(network, 0.9999), Ema(network, 0.9999, warm_up=True)
    torch.nn.init.ones_(network.weight)
    for _ in range(20):
        plain.update()
        warm.update()
    assert plain.network.weight[0, 0] < 0.01
    assert warm.network.weight[0, 0] > 0.9


def test_a_restored_average_goes_on_as_if_nothing_had_happened(network) -> None:
    whole = Ema(network, 0.99, warm_up=True)
    torch.nn.init.ones_(network.weight)
    whole.update()
    parts = Ema(network, 0.99, warm_up=True)
    parts.load_state_dict(whole.state_dict())
    for ema in (whole, parts):
        ema.update()
    assert torch.equal(whole.network.weight, parts.network.weight)
