"""What makes Python wait for a GPU, found without one."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ASKING = {
    *("_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", "repeat_interleave"),
    *("unique_dim", "unique_consecutive", "_unique", "_unique2"),
}
"""Operations whose answer, or its size, Python needs: `item`, `float`, `bool` and the like are the first."""
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class _Watch(TorchDispatchMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__
        masks = args[1] if name in _INDEXING else ()
        if name in _ASKING or any(mask is not None and mask.dtype == torch.bool for mask in masks):
            self._found.append(_described(name))
        return func(*args, **(kwargs or {}))


@contextmanager
def waits() -> Iterator[list[str]]:
    """Each place within the block where Python would wait for a GPU, as it is found.

    Where there is a GPU, torch itself also raises at the first one.
    """
    found: list[str] = []

    def recorded(name: str) -> Callable[..., Any]:
        method = getattr(Tensor, name)

        @wraps(method)
        def record(*arguments: Any, **named: Any) -> Any:
            found.append(_described(name))
            return method(*arguments, **named)

        return record

    with pytest.MonkeyPatch.context() as patch, _Watch(found):
        for name in ("tolist", "numpy"):  # these read a CPU's memory, which no dispatcher sees
            patch.setattr(Tensor, name, recorded(name))
        if not torch.cuda.is_available():
            yield found
            return
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)


def _described(name: str) -> str:
    """The operation, and the line of ours that asked."""
    frames = [frame for frame in traceback.extract_stack() if "site-packages" not in frame.filename]
    frame = next(frame for frame in reversed(frames) if frame.filename != __file__)
    return f"{name} at {frame.filename}:{frame.lineno}: {frame.line}"
