"""What the graph of an exported file takes and gives, whatever computes it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from adcommon.errors import WrongCheckpoint

LARGEST_BATCH, LARGEST_SIDE = 1024, 2048


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


class Contract(NamedTuple):
    """How a graph is computed."""

    batch: int | None
    """Images per call; None: any number."""
    outputs: list[str]
    """"score", and "map" if the method has maps; what else the graph gives is for other programs."""


def contract(session: Session, size: int, where: str) -> Contract:
    """That of a graph whose inputs and outputs are those of `ad export`.

    Args:
        size: side of its images, pixels, as the preprocessing says.

    Raises:
        WrongCheckpoint: it takes or gives something else.
    """
    inputs, outputs = (
        [Tensor(*_fields(each)) for each in some()] for some in (session.get_inputs, session.get_outputs)
    )
    first = inputs[0].shape[0] if inputs and inputs[0].shape else 0
    batch = first if isinstance(first, int) else None
    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise WrongCheckpoint(
            f"{where} takes batches of {batch}; expected 1 to {LARGEST_BATCH} images, or any"
        )
    wanted = Tensor("pixels", "tensor(uint8)", [first, size, size, 3])
    if inputs != [wanted]:
        raise WrongCheckpoint(
            f"{where} takes {_listed(inputs)}; expected {_listed([wanted])}, as its preprocessing says"
        )
    known = {each.name: each for each in outputs if each.name in ("score", "map")}
    score, maps = known.get("score"), known.get("map")
    if score is None or not _is(score, batch, 1) or not (maps is None or _is(maps, batch, 3)):
        count = "batch" if batch is None else batch
        raise WrongCheckpoint(
            f"{where} gives {_listed(outputs)}; expected score, tensor(float), [{count}], and map, "
            f"tensor(float), [{count}, height, width], if any"
        )
    return Contract(batch, ["score"] if maps is None else ["score", "map"])


def _fields(each: Any) -> tuple[str, str, list[Any]]:
    return each.name, each.type, list(each.shape)


def _is(found: Tensor, batch: int | None, axes: int) -> bool:
    first, *sides = found.shape or [0]
    same = first == batch if batch is not None else not isinstance(first, int)
    sound = all(isinstance(side, int) and 1 <= side <= LARGEST_SIDE for side in sides)
    return found.type == "tensor(float)" and same and len(sides) == axes - 1 and sound


def _listed(found: list[Tensor]) -> str:
    return "; ".join(f"{name[:40]}, {kind}, {shape}"[:120] for name, kind, shape in found[:3]) or "nothing"
