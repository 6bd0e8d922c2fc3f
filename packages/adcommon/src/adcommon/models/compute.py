"""How networks are computed: precision, and compilation where a model only scores.

Half precision is for networks alone, which take it from a `Compute`; whatever is done with what they say
(distances, rankings, maps, scores) stays in float32.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.models.feature_store import FrozenFeatures
from adcommon.types.arithmetic import Arithmetic, Known, Precision, refuse_halves
from adcommon.types.prediction import Detector

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

AMPERE = (8, 0)
"""Compute capability of the first GPUs with TF32 and bfloat16."""
HALF: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: Precision, device: torch.device, *, halves: bool = True) -> Known:
    """What a precision means on a device.

    TF32 exists on CUDA GPUs of compute capability 8.0 or higher: elsewhere it is fp32.

    Args:
        halves: False: `auto` is no half precision.

    Raises:
        BadValue: fp16 without a CUDA GPU.
    """
    if precision == "fp16" and device.type != "cuda":
        raise BadValue(f"--precision fp16 needs a CUDA GPU; on {device.type} use fp32 or bf16")
    is_new = device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE
    if precision == "auto" and is_new:
        return "bf16" if halves else "tf32"
    if precision in ("auto", "tf32") and not is_new:
        return "fp32"
    assert precision != "auto"
    return precision


def set_tf32(on: bool) -> None:
    """Let products and convolutions of float32 on CUDA round their factors to 10 bits, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


@contextmanager
def tf32(on: bool, device: torch.device) -> Iterator[None]:
    """The same inside."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    set_tf32(on)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Inside, products of float32 are float32, whatever autocast and TF32 are set to outside."""
    halves = torch.is_autocast_enabled(device.type)
    with tf32(False, device), torch.autocast(device.type, enabled=False) if halves else nullcontext():
        yield


@dataclass(frozen=True)
class Compute:
    """How a detector's networks are computed: `compute(network, images)`."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - frozen
    precision: Known = "fp32"
    halves: bool = True
    """False: half precision is refused."""
    compiles: bool = False
    """By torch.compile, each network at its first call."""
    _compiled: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, recipe: Arithmetic, device: torch.device) -> "Compute":
        """As the model was trained, where the device can: fp16 is fp32 on others than CUDA."""
        known = "fp32" if recipe.precision == "fp16" and device.type != "cuda" else recipe.precision
        return cls(device, resolve(known, device, halves=recipe.halves), recipe.halves)

    def asked(self, precision: Precision | None, *, compiles: bool) -> "Compute":
        """The same in another precision, None: as it is, or with compiled networks.

        Raises:
            BadValue: the device or the method does not bear it.
        """
        known = self.precision if precision is None else resolve(precision, self.device, halves=self.halves)
        if not self.halves:
            refuse_halves(known)
        return Compute(self.device, known, self.halves, compiles)

    def __call__(self, network: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a network, or a method of one, says; tensors, also in lists, in float32 at least."""
        if self.compiles:
            if network not in self._compiled:
                self._compiled[network] = torch.compile(network)
            network = self._compiled[network]
        with self.arithmetic():
            return in_full(network(*args, **kwargs))

    @property
    def not_half(self) -> "Compute":
        """The same for networks whose rounding would be magnified: float32 instead of half precision."""
        known = "fp32" if self.precision in HALF else self.precision
        return replace(self, precision=known)

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Inside, products and convolutions are computed in this precision."""
        half = HALF.get(self.precision)
        within = nullcontext() if half is None else torch.autocast(self.device.type, half)
        with tf32(self.precision == "tf32", self.device), within:
            yield

    @property
    def is_plain(self) -> bool:
        """True in float32 without compilation."""
        return self.precision == "fp32" and not self.compiles

    def frozen(self, network: FrozenFeatures) -> FrozenFeatures:
        """A frozen network that is computed so: what is kept of its features is kept apart."""
        return network if self.is_plain else _Frozen(network, self)


FULL = Compute()
"""In float32 on a CPU."""


class _Frozen(nn.Module):
    def __init__(self, network: FrozenFeatures, compute: Compute) -> None:
        super().__init__()
        self.network, self.compute = network, compute
        self.tag, self.strides = network.tag, network.strides

    def extra_repr(self) -> str:
        return self.compute.precision

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        return self.compute(self.network, images)


@runtime_checkable
class Computes(Detector, Protocol):
    """A detector whose networks are computed as it is told."""

    compute: Compute


def in_full(said: T) -> T:
    """What a network says, without half precision: a tensor, or lists of them; all else is left alone."""
    if isinstance(said, Tensor):
        return said.float() if said.dtype in HALF.values() else said  # type: ignore[return-value]
    return type(said)(map(in_full, said)) if isinstance(said, list | tuple) else said


def ask(detector: Detector, precision: Precision | None, *, compiles: bool) -> None:
    """Let a detector compute in another precision, or with compiled networks, if any is asked for.

    Raises:
        BadValue: it cannot.
    """
    if isinstance(detector, Computes):
        detector.compute = detector.compute.asked(precision, compiles=compiles)
    elif precision not in (None, "fp32") or compiles:
        raise BadValue("this method computes in fp32 alone; leave out --precision and --compile")


def say_other_precision(config: Mapping[str, Any], detector: Detector) -> None:
    """Warn where a stored threshold was chosen from scores of another precision; it is used all the same.

    Args:
        config: of the model folder.
    """
    chosen = config.get("computed_in") or "fp32"  # folders of before it was written scored in it
    now = detector.compute.precision if isinstance(detector, Computes) else "fp32"
    if config["threshold"] is not None and chosen != now:
        logger.warning(
            "the threshold was chosen from scores in %s, and images are scored in %s: it is used all the "
            "same, but scores next to it may be decided otherwise; --precision %s scores as then",
            *(chosen, now, chosen),
        )
