"""How numbers are computed: the flags that mean the same in every training. No torch here."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from adcommon.errors import BadValue

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
"""What may be asked for."""
Known = Literal["fp32", "tf32", "bf16", "fp16"]
"""What `auto` becomes on a device; see `models.compute.resolve`."""


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What every recipe says of it: the papers' are exact and repeatable, those for own data fast."""

    halves: ClassVar[bool] = True
    """False where the method's numbers do not survive 16 bits: `auto` is then tf32 at most."""

    precision: Precision = "fp32"
    """Arithmetic of the networks: `tf32` and 16 bits (`bf16`, `fp16`, which scales gradients) are for GPUs;
    losses, distances, rankings and maps stay in fp32. `auto` is bf16 on a CUDA GPU of compute capability 8.0
    or higher, or tf32 where a method does not bear that, and fp32 elsewhere. The model scores in it too."""
    compile: bool = False
    """Let torch.compile make the networks that learn faster; the first steps take minutes, and draws inside
    the networks, such as dropout, are others."""
    channels_last: bool = False
    """Keep each pixel's channels together in memory, which tensor cores prefer; same numbers up to
    rounding."""
    deterministic: bool = True
    """On CUDA use only operators that give the same bits in every run, where there are such; the log names
    the others. Without it the fastest ones are searched for. A CPU gives the same bits always."""


def refuse_halves(precision: Precision) -> None:
    """Refuse 16 bits for a method whose numbers do not survive them.

    Raises:
        BadValue: says why, and what to use.
    """
    if precision in ("bf16", "fp16"):
        raise BadValue(
            f"--precision {precision}: distances of this method are differences of nearly equal numbers, for "
            "which 16 bits are too few; use auto, tf32 or fp32"
        )
