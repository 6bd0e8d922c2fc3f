"""A network is as large as the tensors that fill it, whatever its description says."""

import threading
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.models.checkpoint import load_strict
from adcommon.models.outline import Undrawn, build_random, build_to_fit, is_outline, outlined, refuse_large


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


def test_no_weights_are_drawn_that_a_file_fills() -> None:
    given, before = tensors(), torch.get_rng_state()
    layers = (
        "kaiming_normal_",
        "kaiming_uniform_",
        "normal_",
        "trunc_normal_",
        "uniform_",
        "xavier_uniform_",
    )

    def make() -> nn.Linear:
        layer = nn.Linear(3, 2)
        for name in layers:
            getattr(nn.init, name)(layer.weight)
        nn.init.normal_(tensor=layer.bias)
        return layer

    module = build_to_fit(make, lambda module: load_strict(module, given, "it"), given, "it")
    assert (module.weight == 1).all()
    assert torch.equal(torch.get_rng_state(), before)
    assert make().weight.std() > 0
    assert not torch.equal(torch.get_rng_state(), before)


class Frozen(nn.Module):
    """One layer that the file fills, and a random one, or a copy of the first, that it does not."""

    def __init__(self, *, copied: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.learned = nn.Linear(3, 2)
        self.frozen = deepcopy(self.learned) if copied else nn.Linear(3, 2)


@pytest.mark.parametrize("copied", [False, True])
def test_random_weights_that_the_file_leaves_out_are_drawn(copied: bool) -> None:
    module = build_to_fit(
        lambda: Frozen(copied=copied),
        lambda module: load_strict(module.learned, tensors(), "it"),
        tensors(),
        "it",
    )
    assert (module.learned.weight == 1).all()
    assert torch.equal(module.frozen.weight, Frozen(copied=copied).frozen.weight)


def test_it_may_be_built_in_inference_mode() -> None:
    with torch.inference_mode():
        assert (fitted(3).weight == 1).all()


def test_other_threads_draw_meanwhile() -> None:
    drawn: list[Tensor] = []
    with Undrawn():
        other = threading.Thread(target=lambda: drawn.append(nn.init.normal_(torch.zeros(9))))
        other.start()
        other.join()
        assert (nn.init.normal_(torch.zeros(9)) == 0).all()
    assert (drawn[0] != 0).any()
