"""Values of many channels, each put into order: on a CPU by NumPy, which sorts numbers many at a time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

LEAST = 2**18
"""Values for which a thread is worth its start, some milliseconds of sorting."""
LOWER = 0xFFFFFFFF
"""The lower half of 64 bits."""

Values = Float[Tensor, "*channels count"]
Places = Int64[Tensor, "*channels count"]


def ordered(values: Values) -> Values:
    """The values of each channel, rising."""
    if not _by_numpy(values):
        return values.sort(dim=-1).values
    numbers = values.numpy().copy()
    _sort(numbers)
    return torch.from_numpy(numbers)


def ordered_with_places(values: Values) -> tuple[Values, Places]:
    """The values of each channel, rising, and where they were.

    Equals are in the order of torch's sort: it follows from nothing, but scores depend on it, and so do the
    authors'. Only channels without equals gain, four times: those of maps that are not cut off at zero.
    """
    rows = values.flatten(0, -2)
    if not _by_numpy(values) or ((rows == 0).sum(dim=1) > 1).all():
        found = values.sort(dim=-1)
        return found.values, found.indices
    places = _places_of_distinct(rows)
    rising = rows.gather(1, places)
    tied = (rising[:, 1:] == rising[:, :-1]).any(dim=1)
    if tied.any():
        rising[tied], places[tied] = rows[tied].sort(dim=1)
    return rising.view_as(values), places.view_as(values)


def _by_numpy(values: Values) -> bool:
    on_cpu = values.device.type == "cpu" and values.dtype == torch.float32
    return on_cpu and not torch.compiler.is_exporting()


def _places_of_distinct(rows: Float[Tensor, "channels count"]) -> Int64[Tensor, "channels count"]:
    """Where the values of each row were, rising: number and place are sorted as one integer."""
    # The bits of floats are in the order of integers once those of negative ones are turned; -0 becomes 0.
    bits = (rows.numpy() + np.float32(0)).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = np.left_shift(bits, 32, dtype=np.int64)
    keys |= np.arange(rows.shape[1])
    _sort(keys)
    keys &= LOWER
    return torch.from_numpy(keys)


def _sort(numbers: NDArray[np.float32] | NDArray[np.int64]) -> None:
    """Each row, in its own memory; NumPy lets go of Python's lock meanwhile."""
    threads = min(torch.get_num_threads(), numbers.size // LEAST)
    if threads < 2:
        numbers.sort()
        return
    rows = numbers.reshape(-1, numbers.shape[-1])
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.ndarray.sort, np.array_split(rows, threads)))
