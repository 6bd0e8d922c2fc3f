"""From images to anomaly maps and image scores, bound to one category's references.

Per level exp(L_n - max) and the probability of being anomalous are upsampled and smoothed. The maxima are
taken from all test images of a category in the paper's protocol, from normal training images in a detector
that is to score one image at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.models.anomaly_maps import gaussian_blur, max_score, upsample
from adcommon.models.checkpoint import load_model, load_strict
from adcommon.types.prediction import Prediction
from resad.backbone import Backbone, build_backbone
from resad.model import LevelScores, ResAD
from resad.network.residual import Residual, match_nested, residual
from resad.recipes import Recipe
from resad.references import References, encode

BLUR_SIGMA_PX = 4.0

Level = Float[Tensor, "images _ _"]
Maps = Float[Tensor, "images height width"]


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """The constants that put likelihoods on one scale."""

    levels: tuple[float, ...]
    """Highest L_n of each level."""
    total: float
    """Highest sum over levels of the upsampled exp(L_n - highest)."""

    @classmethod
    def of(cls, normal: Sequence[Level], size: tuple[int, int]) -> "ScoreRange":
        """The constants of a set of images.

        Args:
            normal: L_n of every level.
            size: of the anomaly maps.
        """
        highest = tuple(float(level.max()) for level in normal)
        return cls(highest, float(normality(normal, size, highest).max()))


def normality(normal: Sequence[Level], size: tuple[int, int], highest: Sequence[float]) -> Maps:
    """Sum over levels of exp(L_n - highest), upsampled with aligned corners; higher is more normal."""
    levels = zip(normal, highest, strict=True)
    return torch.stack(
        [upsample((level - top).exp(), size, align_corners=True) for level, top in levels]
    ).sum(0)


def likelihood_map(normal: Sequence[Level], size: tuple[int, int], scale: ScoreRange) -> Maps:
    """S1: how far the normality falls below its highest, smoothed ("logps" of the authors)."""
    return gaussian_blur(scale.total - normality(normal, size, scale.levels), BLUR_SIGMA_PX)


def probability_map(probability: Sequence[Level], size: tuple[int, int]) -> Maps:
    """S2: mean over levels of the probability of being anomalous, smoothed ("bscores" of the authors)."""
    levels = [upsample(level, size, align_corners=True) for level in probability]
    return gaussian_blur(torch.stack(levels).mean(dim=0), BLUR_SIGMA_PX)


def merged_map(levels: Sequence[LevelScores], size: tuple[int, int], scale: ScoreRange) -> Maps:
    """(S1 + S2) / 2, the map that is reported."""
    likelihood = likelihood_map([level.normal for level in levels], size, scale)
    return (likelihood + probability_map([level.probability for level in levels], size)) / 2


class ResADDetector:
    """A trained ResAD for one category; scores have no fixed range, higher is more anomalous."""

    def __init__(
        self,
        backbone: Backbone,
        model: ResAD,
        preprocess: Preprocess,
        references: References,
        *,
        kind: Residual,
        scale: ScoreRange,
    ) -> None:
        """Put the model in evaluation mode and bind it to the references, which move to its device.

        Args:
            backbone: as in training.
            model: stays where it is; `score` takes images from anywhere.
            preprocess: how its training images were made.
            references: of the category to be scored.
            kind: of residual.
            scale: from normal images of the training dataset.
        """
        self.device = next(model.parameters()).device
        self.backbone = backbone
        self.model = model.eval()
        self.preprocess = preprocess
        self.references = references.to(self.device)
        self.kind: Residual = kind
        self.scale = scale

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Anomaly maps at the images' size, and one score per image; both on the model's device."""
        features = self.backbone(images.to(self.device))
        levels = level_scores(self.model, features, self.references, self.kind)
        maps = merged_map(levels, (images.shape[2], images.shape[3]), self.scale)
        return Prediction(max_score(maps), maps)


def level_scores(
    model: ResAD, features: list[Float[Tensor, "batch _ _ _"]], references: References, kind: Residual
) -> list[LevelScores]:
    """What each level says of images whose backbone features are known; the model is in evaluation mode."""
    shots = references.images
    return nested_scores(model, features, references, kind, [shots])[shots]


@torch.inference_mode()
def nested_scores(
    model: ResAD,
    features: list[Float[Tensor, "batch _ _ _"]],
    references: References,
    kind: Residual,
    shots: Sequence[int],
) -> dict[int, list[LevelScores]]:
    """As `level_scores`, with the first 2, 4, ... reference images, which are compared with only once.

    Args:
        shots: rising numbers of reference images.
    """
    residuals: dict[int, list[Float[Tensor, "batch _ _ _"]]] = {count: [] for count in shots}
    for maps, rows, scale in zip(features, references.levels, model.residual_scale, strict=True):
        per_image = len(rows.rows) // references.images
        found = match_nested(maps, rows, [count * per_image for count in shots])
        for count, matched in zip(shots, found, strict=True):
            residuals[count].append(scale * residual(maps, matched, kind))
    return {count: model(levels) for count, levels in residuals.items()}


@dataclass(frozen=True, slots=True)
class Trained:
    """What a model folder holds, not yet bound to a category."""

    recipe: Recipe
    preprocess: Preprocess
    backbone: Backbone
    model: ResAD
    scale: ScoreRange | None
    """None where the file has none: then the paper's protocol is all there is."""
    config: dict[str, Any]


def load_trained(folder: Path, device: torch.device | str = "cpu") -> Trained:
    """The model that a training run left in its `model` folder, in evaluation mode."""
    config, tensors = load_model(folder, method="resad")
    recipe = Recipe.from_json(config["recipe"])
    backbone = build_backbone(recipe, config["weights"], device)
    model = ResAD(list(backbone.channels), recipe, config["residual_scale"])
    load_strict(model, tensors, where=str(folder))
    scale = ScoreRange(tuple(config["scale"]["levels"]), config["scale"]["total"])
    preprocess = Preprocess(**config["preprocess"])
    return Trained(recipe, preprocess, backbone, model.to(device).eval(), scale, config)


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> ResADDetector:
    """The detector that a training run left in its `model` folder.

    Args:
        folder: holds config.json and model.safetensors.
        category: which of the recorded references to use where none are given.
        references: normal images of the category to be scored.
        device: where everything goes.

    Raises:
        BadValue: no references were given and several categories are recorded, or none.
        DatasetNotFound: a recorded reference image is gone.
    """
    config, _ = load_model(folder, method="resad")
    images = list(references) or recorded_references(config["references"], category, folder)
    loaded = load_trained(folder, device)
    scale = ScoreRange(tuple(config["scale"]["levels"]), config["scale"]["total"])
    encoded = encode(loaded.backbone, images, loaded.preprocess)
    return ResADDetector(
        loaded.backbone,
        loaded.model,
        loaded.preprocess,
        encoded,
        kind=loaded.recipe.residual,
        scale=scale,
    )


def recorded_references(recorded: dict[str, list[str]], category: str | None, folder: Path) -> list[Path]:
    """The reference images with which a training evaluated its model on a category."""
    give = "give normal images of what is to be scored: --references DIR"
    if category is None and len(recorded) == 1:
        (category,) = recorded
    if category is None or category not in recorded:
        known = f"; it recorded some for {', '.join(recorded)} (--category)" if recorded else ""
        raise BadValue(f"the model in {folder} compares with reference images; {give}{known}")
    images = [Path(name) for name in recorded[category]]
    missing = [image for image in images if not image.is_file()]
    if missing or not images:
        gone = f"{len(missing)} are gone, such as {missing[0]}" if missing else "none were recorded"
        raise DatasetNotFound(f"reference images of '{category}': {gone}; {give}")
    return images
