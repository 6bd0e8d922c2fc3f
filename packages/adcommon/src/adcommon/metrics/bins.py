"""Bins of float scores by an order-preserving integer key, and how to split some of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt, UInt8


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
    """A partition of all keys into consecutive bins of 2**n keys each."""

    first: UInt[np.ndarray, " bins"]
    """Smallest key of each bin, ascending from 0."""
    bits: UInt8[np.ndarray, " bins"]
    """n of each bin; 0: one key, so that all scores in it are equal."""
    coarser: "Bins | None" = None
    """The partition that this one refines."""
    offset: Int64[np.ndarray, " coarser_bins"] | None = None
    """Number of the first of its parts here, for each coarser bin."""

    @classmethod
    def uniform(cls, bits: int, dtype: np.dtype) -> "Bins":
        """2**bits bins by the leading bits of the key."""
        unsigned = np.dtype(f"u{dtype.itemsize}")
        rest = 8 * dtype.itemsize - bits
        first = np.arange(1 << bits, dtype=unsigned) << unsigned.type(rest)
        return cls(first, np.full(1 << bits, rest, dtype=np.uint8))

    def index(self, keys: UInt[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Number of the bin of each key."""
        if self.coarser is None or self.offset is None:
            return (keys >> keys.dtype.type(self.bits[0])).astype(np.int64)
        outer = self.coarser.index(keys)
        start = self.offset[outer]
        return start + ((keys - self.coarser.first[outer]) >> self.bits[start]).astype(np.int64)

    def split(self, chosen: Int64[np.ndarray, " chosen"], room: int) -> "Bins":
        """The chosen bins in equal parts, about `room` parts together but at least two each."""
        halvings = np.zeros(len(self.first), dtype=np.uint8)
        halvings[chosen] = np.minimum(max(1, (room // len(chosen)).bit_length() - 1), self.bits[chosen])
        parts = 1 << halvings.astype(np.int64)
        offset = np.cumsum(parts) - parts
        bits = np.repeat(self.bits - halvings, parts)
        number = (np.arange(parts.sum()) - np.repeat(offset, parts)).astype(self.first.dtype)
        return Bins(np.repeat(self.first, parts) + (number << bits), bits, self, offset)
