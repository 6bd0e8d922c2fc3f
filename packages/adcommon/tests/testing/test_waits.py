from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from adcommon.testing.waits import waits


@pytest.mark.parametrize(
    "ask",
    [
        *(float, int, bool, Tensor.item, Tensor.nonzero, Tensor.unique),
        *(lambda x: x.tolist(), lambda x: x.numpy(), lambda x: x[x > 0], lambda x: [x][x.argmax()]),
    ],
)
def test_every_way_to_ask_a_tensor_is_found(ask: Callable[[Tensor], object]) -> None:
    with waits() as found:
        ask(torch.ones(1))
    assert len(found) == 1
    assert "test_waits.py" in found[0]
    found.clear()
    torch.ones(1).item()
    assert found == []


def test_what_stays_on_the_device_is_no_wait() -> None:
    x = torch.ones(4, requires_grad=True)
    with waits() as found:
        chosen = torch.where(x > 0, x, 0)[torch.arange(2)].sum() + x.sort().values[0]
        chosen.backward()
    assert found == []
