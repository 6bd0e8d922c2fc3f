import os

import pytest
import torch

from adcommon.data.processes import received, result_loader, results
from adcommon.errors import BadValue


def half(key: int) -> torch.Tensor:
    if key % 2:
        raise BadValue(f"{key} is odd; expected an even number")
    return torch.tensor([key // 2, os.getpid()])


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_keys(workers) -> None:
    found = list(results(half, [8, 2, 6, 4, 0], workers, seed=0))
    assert [int(number) for number, _ in found] == [4, 1, 3, 2, 0]
    computed_by = {int(process) for _, process in found}
    assert len(computed_by) == max(workers, 1)
    assert (os.getpid() in computed_by) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_users_mistake_comes_as_it_was_raised_after_the_results_before_it(workers) -> None:
    found = results(half, [2, 3, 4], workers, seed=0)
    assert int(next(found)[0]) == 1
    with pytest.raises(BadValue) as caught:
        next(found)
    assert str(caught.value) == "3 is odd; expected an even number"


def test_a_loader_keeps_its_processes() -> None:
    loader = result_loader(half, [0, 2], 1, seed=0)
    passes = [torch.stack(list(received(loader))) for _ in range(2)]
    assert torch.equal(*passes)
