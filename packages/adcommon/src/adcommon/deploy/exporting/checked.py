"""Does an exported graph say what the model in torch says? Asked before it is written. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from adcommon.data.sources.words import said_by
from adcommon.deploy.fastest import smooth_pixels
from adcommon.deploy.inputs import find_images
from adcommon.deploy.model import Model
from adcommon.errors import BadValue
from adcommon.metrics.curves import auroc
from adcommon.types.prediction import Prediction
from adcommon.types.values import Count, Finite

Precision = Literal["fp32", "int8"]
MAX_CHANGE: dict[Precision, float] = {"fp32": 1e-4, "int8": 0.1}
"""Largest `Checked.change` allowed where none is given."""
FEWEST_IMAGES = 10
"""Whose order says anything."""
_TILES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How an exported graph, on the runtime that it is for, compares with the model in torch."""

    precision: Precision
    runtime: str
    """Name and version."""
    images: Count
    """That were compared besides drawn pixels."""
    difference: Finite
    """Largest of a score or a value of a map, as a share of the largest score or value in torch."""
    rank_correlation: Finite | None = None
    """Spearman's, of the images' scores; None: they are fewer than ten."""
    auroc: tuple[Finite, Finite] | None = None
    """In torch, and of the graph; None: the images are not labelled."""
    decisions_changed: Count | None = None
    """Images; None: one of the two has no threshold."""

    @property
    def change(self) -> float:
        """What `--max-change` limits.

        In full precision the difference; else how far the order of the images has changed: one minus the rank
        correlation, or the loss of AUROC if that is more.
        """
        if self.precision == "fp32":
            return self.difference
        assert self.rank_correlation is not None  # refuse_few
        lost = 0.0 if self.auroc is None else self.auroc[0] - self.auroc[1]
        return max(1 - self.rank_correlation, lost)

    @property
    def words(self) -> str:
        """All of it in a line."""
        where = f"{self.images} images" if self.images else "drawn pixels"
        parts = [f"{self.runtime} and torch differ by {self.difference:.1e} of the largest output"]
        if self.precision != "fp32":
            parts.append(f"rank correlation {self.rank_correlation:.3f}")
        if self.auroc is not None:
            parts.append(f"AUROC {self.auroc[0]:.4f} -> {self.auroc[1]:.4f}")
        if self.decisions_changed is not None:
            parts.append(f"{self.decisions_changed} decisions changed")
        return f"{', '.join(parts)} ({where})"


def labelled_images(folder: Path) -> tuple[list[Path], list[int] | None]:
    """The images in a folder at any depth, without masks, and which are anomalous, as far as folders say it.

    Labels are known if some lie in a folder of good ones, by its name, and others do not.
    """
    images, labels = [], []
    for image in find_images(folder):
        said = {said_by(name).kind for name in image.parent.parts[len(folder.parts) :]}
        if "masks" not in said:
            images.append(image)
            labels.append(int("good" not in said))
    return images, labels if len(set(labels)) == 2 else None


def refuse_few(images: Sequence[Path]) -> None:
    """Refuse to judge a reduced precision by too few images.

    Raises:
        BadValue: fewer than ten.
    """
    if len(images) < FEWEST_IMAGES:
        raise BadValue(
            f"{len(images)} images cannot show whether int8 keeps their order; give at least {FEWEST_IMAGES} "
            "with --check-images, anomalous ones among them"
        )


def compare(
    model: Model,
    served: Model,
    images: Sequence[Path],
    labels: Sequence[int] | None,
    *,
    precision: Precision,
    runtime: str,
) -> Checked:
    """Score drawn pixels, one and three images at once, and then the images, with both.

    Args:
        model: in torch.
        served: the exported graph, with the threshold that it decides by.
        labels: 1 for anomalous images; None: not known.

    Raises:
        UnreadableImage: one cannot be decoded.
    """
    drawn = smooth_pixels(3, model.preprocess.size)
    read = (model.preprocess.read(image)[0] for image in images)
    gaps, largest = np.zeros((2, 2))  # of scores, and of maps
    scores: list[tuple[float, float]] = []
    for pixels in chain([drawn[:1], drawn], read):
        ours, theirs = predicted(model, pixels), predicted(served, pixels)
        pairs = ((ours.image_scores, theirs.image_scores), (ours.anomaly_maps, theirs.anomaly_maps))
        for place, (wanted, got) in enumerate(pairs):
            if wanted is not None:
                gaps[place] = np.maximum(gaps[place], np.abs(got - wanted).max())
                largest[place] = np.maximum(largest[place], np.abs(wanted).max())
        scores.append((ours.image_scores.max(), theirs.image_scores.max()))
    wanted, got = np.array(scores[2:]).reshape(-1, 2).T
    truth = np.array(labels or [])
    changed = None
    if len(images) and model.threshold is not None and served.threshold is not None:
        changed = int(((wanted > model.threshold) != (got > served.threshold)).sum())
    return Checked(
        precision=precision,
        runtime=runtime,
        images=len(images),
        difference=float((gaps / np.maximum(largest, np.finfo(np.float32).tiny)).max()),
        rank_correlation=rank_correlation(wanted, got) if len(images) >= FEWEST_IMAGES else None,
        auroc=None if labels is None else (auroc(wanted, truth), auroc(got, truth)),
        decisions_changed=changed,
    )


def predicted(model: Model, pixels: UInt8[np.ndarray, "tiles size size 3"]) -> Prediction:
    """What a model says of the tiles of an image, a few at a time."""
    parts = [
        model.score_pixels(pixels[first : first + _TILES_AT_ONCE])
        for first in range(0, len(pixels), _TILES_AT_ONCE)
    ]
    maps = [part.anomaly_maps for part in parts if part.anomaly_maps is not None]
    scores = np.concatenate([part.image_scores for part in parts])
    return Prediction(scores, np.concatenate(maps) if maps else None)


def rank_correlation(ours: Float[np.ndarray, " images"], theirs: Float[np.ndarray, " images"]) -> float:
    """Spearman's; 0 where all scores are equal, or one is no number, so that no order is left."""
    from scipy.stats import rankdata

    ranks = rankdata(ours), rankdata(theirs)
    if not all(np.ptp(own) > 0 for own in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
