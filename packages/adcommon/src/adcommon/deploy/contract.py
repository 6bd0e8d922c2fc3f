"""What the graph of an exported file takes and gives, whatever computes it; docs/deploy.md explains it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from adcommon.errors import WrongCheckpoint

LARGEST_SIDE = 2048
AXES = {"score": 1, "map": 3, "normalised_score": 1, "p_value": 1, "decision": 1}
"""Of the outputs that a graph may have, by their names; the first axis is the batch."""


class Tensor(NamedTuple):
    """An input or an output of a graph."""

    name: str
    type: str
    """As onnxruntime calls it: tensor(float)."""
    shape: list[Any]
    """A side that is no number is as large as the batch."""


@runtime_checkable
class Session(Protocol):
    """A graph that can be computed; onnxruntime's session is one."""

    def get_inputs(self) -> Sequence[Any]:
        """Each a `Tensor`, or with its fields."""

    def get_outputs(self) -> Sequence[Any]:
        """The same."""

    def run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray], /) -> Sequence[np.ndarray]:
        """The outputs of these names, of inputs by name."""


def contract(session: Session, size: int, where: str) -> list[str]:
    """Which of score and map a graph gives, whose inputs and outputs are those of `ad export`.

    Args:
        size: side of its images, pixels, as the preprocessing says.

    Raises:
        WrongCheckpoint: it takes or gives something else.
    """
    inputs, outputs = (
        [Tensor(each.name, each.type, list(each.shape)) for each in some()]
        for some in (session.get_inputs, session.get_outputs)
    )
    wanted = Tensor("pixels", "tensor(uint8)", ["batch", size, size, 3])
    if [_in_any_batch(each) for each in inputs] != [wanted]:
        raise WrongCheckpoint(
            f"{where} takes {_listed(inputs)}; expected {_listed([wanted])}, as its preprocessing says, from "
            "`ad export`"
        )
    names = [each.name for each in outputs]
    if "score" not in names or not all(map(_is_known, outputs)):
        raise WrongCheckpoint(
            f"{where} gives {_listed(outputs)}; expected score, tensor(float), [batch], and map, "
            "tensor(float), [batch, height, width], if any, from `ad export`"
        )
    return [name for name in ("score", "map") if name in names]


def _in_any_batch(found: Tensor) -> Tensor:
    """With the name of its batch, whatever the runtime calls it."""
    is_free = bool(found.shape) and not isinstance(found.shape[0], int)
    return found._replace(shape=["batch", *found.shape[1:]]) if is_free else found


def _is_known(output: Tensor) -> bool:
    """True for one of `AXES`, whose sides are no larger than a map may be."""
    name, kind, shape = _in_any_batch(output)
    sound = all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in shape[1:])
    wanted = "tensor(bool)" if name == "decision" else "tensor(float)"
    return kind == wanted and shape[:1] == ["batch"] and len(shape) == AXES.get(name) and sound


def _listed(found: list[Tensor]) -> str:
    return (
        "; ".join(
            f"{name[:40]}, {kind}, [{', '.join(map(str, shape))}]"[:120] for name, kind, shape in found[:3]
        )
        or "nothing"
    )
