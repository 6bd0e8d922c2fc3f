"""How much noise each step has: betas, the steps kept by respacing, and every table made of them; no torch.

Source: Nichol and Dhariwal, Improved Denoising Diffusion Probabilistic Models (arXiv 2102.09672); the
respacing is that of its code, guided-diffusion.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int64

from adcommon.errors import BadValue

COSINE_OFFSET = 0.008
"""Keeps the first betas of the cosine schedule from vanishing."""
LARGEST_BETA = 0.999


@dataclass(frozen=True)
class Schedule:
    """The kept steps of a process, from the least noisy, and the tables of the shorter process they make."""

    timesteps: Int64[np.ndarray, " steps"]
    """Numbers of the kept steps in the full process."""
    times: Float[np.ndarray, " steps"]
    """What the networks are told about them."""
    betas: Float[np.ndarray, " steps"]
    """Variance that a step adds."""

    @property
    def alphas_cumprod(self) -> Float[np.ndarray, " steps"]:
        """Share of the image's variance that is left after a step."""
        return np.cumprod(1.0 - self.betas)

    @property
    def alphas_cumprod_prev(self) -> Float[np.ndarray, " steps"]:
        """The same, before a step."""
        return np.append(1.0, self.alphas_cumprod[:-1])

    @property
    def alphas_cumprod_next(self) -> Float[np.ndarray, " steps"]:
        """The same, after the step that follows; nothing is left after the last."""
        return np.append(self.alphas_cumprod[1:], 0.0)

    @property
    def posterior_variance(self) -> Float[np.ndarray, " steps"]:
        """Of q(x_{t-1} | x_t, x_0)."""
        return self.betas * (1.0 - self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @property
    def posterior_log_variance_clipped(self) -> Float[np.ndarray, " steps"]:
        """Its logarithm; at the first step, where it is zero, that of the second."""
        variance = self.posterior_variance
        return np.log(np.append(variance[1], variance[1:]))

    @property
    def posterior_mean_coef1(self) -> Float[np.ndarray, " steps"]:
        """Weight of x_0 in the mean of q(x_{t-1} | x_t, x_0)."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)

    @property
    def posterior_mean_coef2(self) -> Float[np.ndarray, " steps"]:
        """Weight of x_t in it."""
        return (1.0 - self.alphas_cumprod_prev) * np.sqrt(1.0 - self.betas) / (1.0 - self.alphas_cumprod)


def make_schedule(
    steps: int = 1000,
    kind: str = "linear",
    respacing: str | Sequence[int] | None = None,
    *,
    rescale_times: bool = False,
) -> Schedule:
    """The process that keeps only some steps of a longer one, see `make_betas` and `kept_steps`.

    Args:
        respacing: None keeps all.
        rescale_times: tell the networks times of a process of 1000 steps, whatever `steps` is.

    Raises:
        BadValue: an unknown schedule or respacing, or one that keeps fewer than two steps.
    """
    kept = list(range(steps)) if respacing is None else kept_steps(steps, respacing)
    if len(kept) < 2:
        raise BadValue(f"the respacing '{respacing}' keeps {len(kept)} of {steps} steps; expected at least 2")
    cumulative = np.cumprod(1.0 - make_betas(kind, steps))[kept]
    timesteps = np.array(kept, dtype=np.int64)
    return Schedule(
        timesteps=timesteps,
        times=timesteps * (1000.0 / steps if rescale_times else 1.0),
        betas=1.0 - cumulative / np.append(1.0, cumulative[:-1]),
    )


def make_betas(kind: str, steps: int) -> Float[np.ndarray, " steps"]:
    """The variance that each step of a process adds.

    Args:
        kind: "linear", "cosine", or "const" and the value that a process of 1000 steps has, "const0.01".
        steps: of the process; linear and constant betas grow as it gets shorter.
    """
    scale = 1000 / steps
    if kind == "linear":
        betas = np.linspace(scale * 0.0001, scale * 0.02, steps, dtype=np.float64)
    elif kind == "cosine":
        left = [_cosine_left(i / steps) for i in range(steps + 1)]
        betas = np.array([min(1 - after / before, LARGEST_BETA) for before, after in pairwise(left)])
    elif constant := re.fullmatch(r"const(0\.\d+)", kind):
        betas = np.full(steps, scale * float(constant[1]), dtype=np.float64)
    else:
        raise BadValue(f"unknown noise schedule '{kind}'; expected linear, cosine, or const0.01 and the like")
    if not (betas.min() > 0 and betas.max() <= 1):
        raise BadValue(f"the noise schedule '{kind}' has no {steps} steps: its betas would pass 1")
    return betas


def kept_steps(steps: int, respacing: str | Sequence[int]) -> list[int]:
    """The steps of a process that a shorter one keeps, in rising order.

    Args:
        steps: of the full process.
        respacing: "ddim20": every n-th step from 0 so that 20 remain, with the smallest such n; "10,15,20" or
            [10, 15, 20]: that many from each of three equal parts, evenly spread.

    Raises:
        BadValue: no stride gives that number, or a part has fewer steps than are asked of it.
    """
    words = respacing if isinstance(respacing, str) else ",".join(map(str, respacing))
    is_strided = words.startswith("ddim")
    try:
        counts = [int(part) for part in ([words[4:]] if is_strided else words.split(","))]
    except ValueError:
        raise BadValue(
            f"the respacing is '{respacing}'; expected ddim20 and the like, or numbers as in 10,15,20"
        ) from None
    if is_strided:
        for skip in range(1, steps):
            if len(range(0, steps, skip)) == counts[0]:
                return list(range(0, steps, skip))
        raise BadValue(
            f"no stride through {steps} steps keeps exactly {counts[0]} of them; try another than {respacing}"
        )
    size, rest = divmod(steps, len(counts))
    kept: list[int] = []
    first = 0
    for number, count in enumerate(counts):
        length = size + (number < rest)
        if not 0 <= count <= length:
            raise BadValue(
                f"the respacing '{respacing}' asks for {count} steps of part {number + 1}, which has {length}"
            )
        # Faithful: a running sum is rounded, not a multiple of the stride; the two differ in places.
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        place = 0.0
        for _ in range(count):
            kept.append(first + round(place))
            place += stride
        first += length
    return kept


def _cosine_left(time: float) -> float:
    return math.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
