"""Splits that are drawn at random, here and by the papers."""

import logging
import math
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from adcommon.errors import BadValue
from adcommon.types.records import Record, Split

T = TypeVar("T")

logger = logging.getLogger(__name__)

INCTRL_SEED = 42
"""Seed of the splits of ELPV, KolektorSDD, AITEX, BrainMRI and HeadCT in InCTRL (arXiv 2403.06495)."""


def quarter_split(
    count: int, seed: int = INCTRL_SEED
) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " test"]]:
    """Split `count` normal images: positions of those to train with, and of the quarter (rounded up) to test.

    The positions and their order are those of `train_test_split(test_size=0.25, random_state=seed)` of
    scikit-learn, which InCTRL calls.

    >>> train, test = quarter_split(7)
    >>> train.tolist(), test.tolist()
    ([5, 2, 4, 3, 6], [0, 1])
    """
    # Faithful: the legacy generator is what the published splits were drawn with.
    order = np.random.RandomState(seed).permutation(count)
    tested = math.ceil(count / 4)
    return order[tested:], order[:tested]


def quarter(items: Sequence[T]) -> tuple[list[T], list[T]]:
    """InCTRL's split of normal images in the given order: those that train, and the quarter that tests."""
    train, test = quarter_split(len(items))
    return [items[index] for index in train], [items[index] for index in test]


def split_normals(normal: Sequence[Record], seed: int) -> Split:
    """Keep a quarter of the normal images for the test, drawn with a seed; both parts in the given order."""
    train, test = quarter_split(len(normal), seed)
    return Split([normal[index] for index in sorted(train)], [normal[index] for index in sorted(test)])


def hold_out(records: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Training images, and those kept out of training to choose the decision threshold; both in their order.

    Args:
        share: of all images, in [0, 1); rounded down, and 0 keeps none out.

    Raises:
        BadValue: nothing would be left to train with.
    """
    if not 0 <= share < 1:
        raise BadValue(f"the share of images kept out of training is {share}; expected 0 or more, below 1")
    count = math.floor(share * len(records))
    if share and not count:
        say_no_threshold(", ".join(dict.fromkeys(record.category for record in records)), len(records))
    kept_out = set(np.random.default_rng(seed).permutation(len(records))[:count].tolist())
    training = [record for position, record in enumerate(records) if position not in kept_out]
    return training, [records[position] for position in sorted(kept_out)]


@cache
def say_no_threshold(categories: str, images: int) -> None:
    """Warn once per process, which divides the images when it checks them and when it trains."""
    logger.warning(
        "no decision threshold for %s: too few normal images (%d) to keep any for it", categories, images
    )
