"""What a trained model needs to score single images: the constants of its maps.

They come from normal images of the training dataset, compared with other normal images of their category, as
an unseen category's images will be compared with its references.
"""

import logging
from collections.abc import Sequence

import numpy as np

from adcommon.models.compute import Compute
from resad.data import TrainingData
from resad.detector import ScoreRange, level_scores, normality
from resad.model import LevelScores, ResAD, joined
from resad.network.residual import References
from resad.recipes import Recipe

logger = logging.getLogger(__name__)

IMAGES_PER_CATEGORY = 32
"""Normal images from which the constants are taken."""


def score_range(model: ResAD, data: TrainingData, recipe: Recipe) -> ScoreRange:
    """The constants, from as many references as the most shots and other images of each seen category."""
    model.eval()
    size = (data.preprocess.size, data.preprocess.size)
    shots = max(recipe.shots)
    normal = []
    for name, pool in data.pools.items():
        chosen, rest = _divide(pool, shots, [recipe.seed, data.categories.index(name)])
        if len(chosen) < shots:
            logger.warning("'%s' has only %d images to calibrate with as references", name, len(chosen))
        references = References.of(data.store.batch(chosen)).to(next(model.parameters()).device)
        normal.append(score_places(model, data, rest[:IMAGES_PER_CATEGORY], references, recipe))

    ranges = [ScoreRange.of([level.normal for level in levels], size) for levels in normal]
    highest = tuple(max(part.levels[level] for part in ranges) for level in range(recipe.feature_levels))
    totals = [float(normality([level.normal for level in levels], size, highest).max()) for levels in normal]
    return ScoreRange(highest, max(totals))


def score_places(
    model: ResAD, data: TrainingData, places: Sequence[int], references: References, recipe: Recipe
) -> list[LevelScores]:
    """These images with one set of references, on the CPU; the model is in evaluation mode."""
    compute = Compute.of(recipe, next(model.parameters()).device)
    parts = []
    for first in range(0, len(places), recipe.test_batch_size):
        maps = data.store.batch(places[first : first + recipe.test_batch_size])
        scores = level_scores(model, maps, references, compute)
        parts.append([level.cpu() for level in scores])
    return joined(parts)


def _divide(pool: Sequence[int], shots: int, seed: list[int]) -> tuple[list[int], list[int]]:
    """Images that serve as references, and those compared with them; at least one of either."""
    order = [pool[place] for place in np.random.default_rng(seed).permutation(len(pool))]
    count = max(1, min(shots, len(order) - 1))
    return order[:count], order[count:] or order
