"""Networks whose sizes come from outside: looked at without memory before they are built."""

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from adcommon.errors import BadValue, UserError, WrongCheckpoint
from adcommon.models.pickles import DAMAGED, first_line

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")
_SLACK_BYTES = 2**29
"""What a network may need besides its tensors: a frozen part that the file leaves out, tables."""
_LARGEST_RANDOM = 2**30
"""Bytes of a network with random weights: for trials, and no file vouches for its size."""
_MOST_LAYERS = 20_000
"""Parameters that such a network may have, however small they are."""
_DRAWS = {
    Tensor.normal_: "mean",
    Tensor.uniform_: "from",
    nn.init.normal_: "mean",
    nn.init.uniform_: "a",
    nn.init.kaiming_uniform_: "",
}
"""Functions that draw values for a tensor, and which argument is one that might be drawn; else 0 is."""


def build_to_fit(
    make: Callable[[], M], fill: Callable[[M], object], tensors: Mapping[str, Tensor], where: str
) -> M:
    """A module that is as large as the tensors that are to fill it, whatever its description says.

    It is built twice: without memory, to compare its names and shapes with the tensors', and for real.

    Args:
        make: builds the module.
        fill: copies the tensors into it, with `load_strict` or `fill_trunk`.
        where: the description comes from.

    Raises:
        WrongCheckpoint: the description is no module's, or one's that the tensors do not fill.
    """

    def compared() -> M:
        module = make()
        fill(module)
        return module

    needed = _bytes_of(outline(compared, where, 4 * len(tensors) + 4000))
    given = sum(tensor.nbytes for tensor in tensors.values())
    if needed > 2 * given + _SLACK_BYTES:
        raise WrongCheckpoint(
            f"{where} describes a network of {needed} bytes; there are {given} bytes of tensors for it"
        )
    with Undrawn() as undrawn:
        module = make()
    fill(module)
    if not undrawn.has_filled(module):  # random weights that the file leaves out
        module = make()
        fill(module)
    return module


class Undrawn(TorchFunctionMode):
    """Constants stand where weights would be drawn, in its context and thread: for what a file fills.

    For networks of a hundred million weights drawing takes longer than all else of their loading.
    """

    def __init__(self) -> None:
        """Nothing was asked for yet."""
        super().__init__()
        self._asked: list[tuple[weakref.ref[Tensor], int]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What a function returns here."""
        named = kwargs or {}
        if func not in _DRAWS:
            return func(*args, **named)
        tensor, *bounds = args or (named["tensor"],)
        with torch.no_grad():
            tensor.fill_(named.get(_DRAWS[func], bounds[0] if bounds else 0))
        self._asked.append((weakref.ref(tensor), _version(tensor)))
        return tensor

    def has_filled(self, module: nn.Module) -> bool:
        """True if what should have been drawn, and still is there, was written since, and each copy of it."""
        left = ((tensor(), before) for tensor, before in self._asked)
        written = all(tensor is None or _version(tensor) > before for tensor, before in left)
        return written and all(_version(parameter) > 0 for parameter in module.parameters())


def _version(tensor: Tensor) -> int:
    """How often a tensor was written; 0 of one that was made in inference mode, where nobody counts."""
    return 0 if tensor.is_inference() else tensor._version


def build_random(make: Callable[[], M], where: str) -> M:
    """A module with random weights that its description, which is `where`, cannot make too large.

    Raises:
        WrongCheckpoint: the description is no module's.
        BadValue: it would take gigabytes.
    """
    seen = outline(make, where)
    if outlined():
        return seen
    refuse_large(seen, where)
    return make()


def outline(make: Callable[[], T], where: str, most: int = _MOST_LAYERS) -> T:
    """What `make` builds, without memory.

    Args:
        where: the description comes from.
        most: parameters that it may have.

    Raises:
        WrongCheckpoint: the description is no network's, or one's of more layers.
    """
    try:
        with torch.device("meta"), _at_most(most, where):
            return make()
    except UserError as error:
        if where in str(error):
            raise
        raise WrongCheckpoint(f"{where}: {error}") from error
    except DAMAGED as error:
        raise WrongCheckpoint(f"{where} describes no network: {first_line(error)}") from error


def _bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


@contextmanager
def _at_most(count: int, where: str) -> Iterator[None]:
    """Stop the building of a module, in this thread, that gets more than so many parameters."""
    thread, seen = threading.get_ident(), 0

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal seen
        seen += threading.get_ident() == thread
        if seen > count:
            raise WrongCheckpoint(f"{where} describes a network of many more layers than there are tensors")

    handle = register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()


def outlined() -> bool:
    """True while only an outline is built: modules without memory, which need no weights."""
    return torch.get_default_device().type == "meta"


def is_outline(module: nn.Module) -> bool:
    """True for a module without memory."""
    return any(tensor.is_meta for tensor in module.state_dict().values())


def refuse_large(seen: nn.Module, what: str) -> None:
    """Refuse to draw random weights for a network that would take gigabytes.

    Raises:
        BadValue: says how large it is.
    """
    if (needed := _bytes_of(seen)) > _LARGEST_RANDOM:
        raise BadValue(
            f"{what} with random weights takes {needed / 2**30:.1f} GiB; expected at most "
            f"{_LARGEST_RANDOM / 2**30:.0f} for a trial"
        )
