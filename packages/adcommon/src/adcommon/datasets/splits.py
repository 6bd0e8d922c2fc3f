"""Splits that are drawn at random, here and by the papers."""

import math

import numpy as np
from jaxtyping import Int64

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
