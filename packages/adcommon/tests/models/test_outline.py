"""A network is as large as the tensors that fill it, whatever its description says."""

import threading

import pytest
import torch
from torch import Tensor, nn

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.models.checkpoint import load_strict
from adcommon.models.outline import build_random, build_to_fit, is_outline, outlined, refuse_large


def tensors() -> dict[str, Tensor]:
    return {name: torch.ones_like(value) for name, value in nn.Linear(3, 2).state_dict().items()}


def fitted(inputs: int, layers: int = 1) -> nn.Module:
    def make() -> nn.Module:
        stack = [nn.Linear(inputs, 2) for _ in range(layers)]
        return stack[0] if layers == 1 else nn.Sequential(*stack)

    return build_to_fit(
        make, lambda module: load_strict(module, tensors(), "config.json"), tensors(), "model"
    )


def test_a_module_that_fits_is_built_and_filled() -> None:
    module = fitted(3)
    assert not is_outline(module)
    assert all((value == 1).all() for value in module.state_dict().values())


@pytest.mark.parametrize(
    ("inputs", "layers", "message"),
    [
        (10**9, 1, "shape: weight is"),
        (10**15, 1, "shape: weight is"),
        (3, 10**9, "many more layers than there are tensors"),
        (-1, 1, "describes no network"),
    ],
)
def test_a_description_of_another_size_costs_nothing(inputs: int, layers: int, message: str) -> None:
    with pytest.raises(WrongCheckpoint, match=message):
        fitted(inputs, layers)


def test_tables_that_no_file_holds_count_too() -> None:
    class WithTable(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 2)
            self.register_buffer("table", torch.zeros(10**6, 10**4), persistent=False)

    with pytest.raises(WrongCheckpoint, match="describes a network of 40000000032 bytes; there are 32"):
        build_to_fit(WithTable, lambda module: load_strict(module, tensors(), "it"), tensors(), "config.json")


def test_random_weights_have_a_limit() -> None:
    assert not is_outline(build_random(lambda: nn.Linear(3, 2), "it"))
    with pytest.raises(BadValue, match=r"it with random weights takes 74\.5 GiB; expected at most 1"):
        build_random(lambda: nn.Linear(10**9, 20), "it")
    with torch.device("meta"):
        assert outlined()
        assert is_outline(build_random(lambda: nn.Linear(10**9, 20), "it"))
        with pytest.raises(BadValue, match=r"takes 74\.5 GiB"):
            refuse_large(nn.Linear(10**9, 20), "it")
    assert not outlined()


def test_other_threads_may_build_what_they_like_meanwhile() -> None:
    built: list[nn.Module] = []

    def make() -> nn.Module:
        other = threading.Thread(target=lambda: built.extend(nn.Linear(1, 1) for _ in range(3000)))
        other.start()
        other.join()
        return nn.Linear(3, 2)

    build_to_fit(make, lambda module: load_strict(module, tensors(), "it"), tensors(), "it")
    assert len(built) == 6000
