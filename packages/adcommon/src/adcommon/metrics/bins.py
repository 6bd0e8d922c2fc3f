"""Bins of float scores by an order-preserving integer key, and how to split some of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt


def order_key(scores: Float[np.ndarray, "*shape"]) -> UInt[np.ndarray, "*shape"]:
    """Unsigned integers in the same order as the float32 or float64 scores; both zeros share a key.

    A float's bits are ordered like its magnitude, so negative numbers are complemented and positive ones
    get the sign bit.
    """
    unsigned = np.dtype(f"u{scores.itemsize}")
    sign = unsigned.type(1 << (8 * scores.itemsize - 1))
    bits = (scores + scores.dtype.type(0)).view(unsigned)
    return np.where(bits & sign, ~bits, bits | sign)


def score_of_key(key: int, dtype: np.dtype) -> float:
    """The score that has this key; keys below that of -inf belong to NaN and give -inf."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign = 1 << (8 * dtype.itemsize - 1)
    lowest = int(order_key(np.array([-np.inf], dtype))[0])
    key = max(key, lowest)
    bits = key - sign if key >= sign else 2 * sign - 1 - key
    return float(np.array([bits], unsigned).view(dtype)[0])


@dataclass(frozen=True, eq=False)
class Bins:
    """A partition of all keys into consecutive bins."""

    first: UInt[np.ndarray, " bins"]
    """Smallest key of each bin, ascending from 0."""
    shift: int | None = None
    """Key bits below the bin number, if all bins are equally wide."""

    @classmethod
    def uniform(cls, bits: int, dtype: np.dtype) -> "Bins":
        """2**bits bins by the leading bits of the key."""
        unsigned = np.dtype(f"u{dtype.itemsize}")
        shift = 8 * dtype.itemsize - bits
        return cls(np.arange(1 << bits, dtype=unsigned) << unsigned.type(shift), shift)

    @property
    def last(self) -> UInt[np.ndarray, " bins"]:
        """Largest key of each bin."""
        return np.append(self.first[1:] - 1, np.iinfo(self.first.dtype).max).astype(self.first.dtype)

    def index(self, keys: UInt[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Number of the bin of each key."""
        if self.shift is not None:
            return (keys >> keys.dtype.type(self.shift)).astype(np.int64)
        return np.searchsorted(self.first, keys, side="right") - 1

    def split(
        self, chosen: Int64[np.ndarray, " chosen"], occupied: Bool[np.ndarray, " bins"], room: int
    ) -> "Bins":
        """The chosen bins in as many equal parts as `room` allows; empty neighbours become one bin.

        Args:
            chosen: numbers of bins to split; each holds 2**n keys, as bins with scores in them do.
            occupied: bins that keep their borders although they are not split.
            room: number of bins the parts may take together.
        """
        last = self.last
        width = last[chosen] - self.first[chosen] + self.first.dtype.type(1)
        parts = 1 << max(1, (room // len(chosen)).bit_length() - 1)
        step = np.maximum(width // self.first.dtype.type(parts), 1)
        cuts = self.first[chosen][:, None] + step[:, None] * np.arange(parts, dtype=self.first.dtype)
        inside = cuts <= last[chosen][:, None]
        kept = occupied | np.roll(occupied, 1)  # the bin after an occupied one marks its end
        kept[0] = True
        return Bins(np.unique(np.concatenate([self.first[kept], cuts[inside]])))
