"""Numbers that have a range, as types: flags, and fields of recipes, settings and files.

A range is what could ever make sense, not what works well. `io.schema` checks fields; a word on a command
line, or in a file of flags, is checked where it becomes a number.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter, Token
from msgspec import Meta

from adcommon.errors import BadValue, UserError
from adcommon.types.describe import describe


def _flag(kind: type[int | float], limits: Meta) -> Parameter:
    """How a flag's word becomes a number; cyclopts would round 2.7 to a whole number."""
    hint: Any = Annotated[kind, limits]

    def parse(_: Any, tokens: Sequence[Token]) -> int | float:
        (token,) = tokens
        try:
            number: int | float = msgspec.convert(kind(token.value), hint)
            if math.isfinite(number):
                return number
        except (ValueError, OverflowError):  # no number, or out of range
            pass
        place = f"{token.source}: " if token.source != "cli" else ""
        name = (token.keyword or "a value").strip("[]")
        raise UserError(f"{place}{name} is {token.value[:60]}; expected {describe(hint)}")

    return Parameter(converter=parse)


_COUNT = Meta(ge=0, le=2**31 - 1)
_POSITIVE = Meta(ge=1, le=2**31 - 1)
_SEED = Meta(ge=0, le=2**32 - 1)
_SIDE = Meta(ge=1, le=2048)
_WIDTH = Meta(ge=1, le=2**16)
_DEPTH = Meta(ge=1, le=1000)
_WORKERS = Meta(ge=0, le=1024)
_PORT = Meta(ge=0, le=2**16 - 1)
_WHITE = Meta(ge=1, le=2**16 - 1)
_SHARE = Meta(ge=0, le=1)
_SHARE_BELOW_ONE = Meta(ge=0, lt=1)
_RATE = Meta(gt=0, lt=1)
_NOT_NEGATIVE = Meta(ge=0, le=1e9)
_ABOVE_ZERO = Meta(gt=0, le=1e9)
_FINITE = Meta()

Count = Annotated[int, _COUNT, _flag(int, _COUNT)]
"""How many; 0 where that switches something off."""
Positive = Annotated[int, _POSITIVE, _flag(int, _POSITIVE)]
"""How many, at least one."""
Seed = Annotated[int, _SEED, _flag(int, _SEED)]
"""Of random numbers: NumPy takes no other."""
Side = Annotated[int, _SIDE, _flag(int, _SIDE)]
"""Pixels of a side of a network's input; more would take gigabytes an image."""
Window = Annotated[tuple[Side, ...] | Side, Parameter(consume_multiple=True)]
"""Height and width in pixels, or one number that is both; see `both_sides`."""
Width = Annotated[int, _WIDTH, _flag(int, _WIDTH)]
"""Numbers in a layer of a network."""
Depth = Annotated[int, _DEPTH, _flag(int, _DEPTH)]
"""Layers of a network."""
Workers = Annotated[int, _WORKERS, _flag(int, _WORKERS)]
"""Processes or threads besides this one."""
Port = Annotated[int, _PORT, _flag(int, _PORT)]
"""Of an address; 0 is any that is free."""
White = Annotated[int, _WHITE, _flag(int, _WHITE)]
"""Value of white in images of more than 8 bits."""
Share = Annotated[float, _SHARE, _flag(float, _SHARE)]
"""Of a whole."""
ShareBelowOne = Annotated[float, _SHARE_BELOW_ONE, _flag(float, _SHARE_BELOW_ONE)]
"""Of a whole, and never all of it: dropout, decays of moments, images kept out of training."""
Rate = Annotated[float, _RATE, _flag(float, _RATE)]
"""Of false alarms: neither never nor always."""
NotNegative = Annotated[float, _NOT_NEGATIVE, _flag(float, _NOT_NEGATIVE)]
"""A learning rate, a weight, a factor."""
AboveZero = Annotated[float, _ABOVE_ZERO, _flag(float, _ABOVE_ZERO)]
"""The same where zero makes no sense: epsilons, deviations, temperatures."""
Finite = Annotated[float, _FINITE, _flag(float, _FINITE)]
"""Any number: a score."""


def multiple_near(side: int, unit: int) -> int:
    """The multiple of a unit that is nearest to a side, at least one unit: what an error proposes.

    >>> multiple_near(250, 32), multiple_near(5, 32)
    (256, 32)
    """
    return max(1, round(side / unit)) * unit


def both_sides(window: tuple[int, ...] | int) -> tuple[int, int]:
    """Height and width of a window.

    >>> both_sides((8, 12)), both_sides(16)
    ((8, 12), (16, 16))

    Raises:
        BadValue: more sides than two, or none.
    """
    sides = (window,) if isinstance(window, int) else window
    if len(sides) not in (1, 2):
        raise BadValue(f"a window has the sides {sides}; expected height and width, or one number")
    return sides[0], sides[-1]


MapFormat = Literal["npy", "tiff"]
"""Of a file that holds an anomaly map."""
Metrics = Literal["exact", "bounded"]
"""How pixel metrics are computed: of all maps at once, or of counts, each in a certified interval."""
Tracker = Literal["none", "tensorboard", "mlflow", "wandb"]
"""What else a training is written down in; each is an extra of the same name."""
Runtime = Literal["auto", "onnxruntime", "openvino"]
"""What computes an exported model."""
