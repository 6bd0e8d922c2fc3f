"""Likelihoods of all test images of an unseen category, for every draw and number of references."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from adcommon.models.feature_store import FeatureStore
from resad.detector import level_scores, nested_scores
from resad.model import LevelScores, ResAD
from resad.network.residual import ReferenceRows, as_rows
from resad.recipes import Recipe
from resad.references import References
from resad.targets import Aligned, Target


@dataclass(frozen=True, slots=True)
class Outcome:
    """One category with one draw of one number of references."""

    category: str
    shots: int
    draw: str
    levels: list[LevelScores]
    """Of all test images, on the CPU."""


def score_target(model: ResAD, target: Target, recipe: Recipe) -> Iterator[Outcome]:
    """Score a category's test images with the references that it has; the model is put in evaluation mode."""
    model.eval()
    if target.aligned is not None:
        yield from score_aligned(model, target, target.aligned, recipe)
    else:
        yield from score_draws(model, target, recipe)


def score_draws(model: ResAD, target: Target, recipe: Recipe) -> Iterator[Outcome]:
    """Once per draw and number of shots; each image's features are fetched once for all of them."""
    device = next(model.parameters()).device
    shots = sorted(recipe.shots)
    references = {draw.name: draw.references.first(shots[-1]).to(device) for draw in target.draws}
    parts: dict[tuple[str, int], list[list[LevelScores]]] = {
        (name, count): [] for name in references for count in recipe.shots
    }
    images, size = len(target.records), recipe.test_batch_size
    for first in tqdm(
        range(0, images, size), desc=f"scoring {target.category}", unit="batch", disable=None, leave=False
    ):
        features = [maps.to(device) for maps in target.store.batch(range(first, min(first + size, images)))]
        for name, chosen in references.items():
            for count, scores in nested_scores(model, features, chosen, recipe.residual, shots).items():
                parts[name, count].append([_to_cpu(level) for level in scores])
    for (name, count), batches in parts.items():
        yield Outcome(target.category, count, name, _joined(batches))


def score_aligned(model: ResAD, target: Target, aligned: Aligned, recipe: Recipe) -> Iterator[Outcome]:
    """Each image with its own references, once per number of shots."""
    device = next(model.parameters()).device
    shots = sorted(recipe.shots)
    parts: dict[int, list[list[LevelScores]]] = {count: [] for count in recipe.shots}
    for place in tqdm(
        range(len(target.records)), desc=f"scoring {target.category}", disable=None, leave=False
    ):
        features = [maps.to(device) for maps in target.store.batch([place])]
        chosen = aligned.pool.batch(aligned.choice[place, : shots[-1]].tolist())
        rows = [ReferenceRows.of(as_rows(maps.to(device))) for maps in chosen]
        references = References(rows, shots[-1])
        for count, scores in nested_scores(model, features, references, recipe.residual, shots).items():
            parts[count].append([_to_cpu(level) for level in scores])
    for count, batches in parts.items():
        yield Outcome(target.category, count, target.draw_names[0], _joined(batches))


def score_places(
    model: ResAD, store: FeatureStore, places: Sequence[int], references: References, recipe: Recipe
) -> list[LevelScores]:
    """These images of a store with one set of references, on the CPU; the model is in evaluation mode."""
    device = next(model.parameters()).device
    parts = []
    for first in range(0, len(places), recipe.test_batch_size):
        maps = store.batch(places[first : first + recipe.test_batch_size])
        scores = level_scores(model, [level.to(device) for level in maps], references, recipe.residual)
        parts.append([_to_cpu(level) for level in scores])
    return _joined(parts)


def _joined(batches: Sequence[Sequence[LevelScores]]) -> list[LevelScores]:
    """The levels of all batches together."""
    return [
        LevelScores(
            torch.cat([level.normal for level in levels]), torch.cat([level.probability for level in levels])
        )
        for levels in zip(*batches, strict=True)
    ]


def _to_cpu(level: LevelScores) -> LevelScores:
    return LevelScores(level.normal.cpu(), level.probability.cpu())
