"""A trained ResAD and what is known of it, from a model folder or from a checkpoint of the authors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adcommon.errors import BadValue, DatasetNotFound, WrongCheckpoint
from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.models.compute import Compute
from adcommon.models.config import ModelConfig
from adcommon.models.outline import build_to_fit, outline
from adcommon.models.weights import named_in_config
from adcommon.types.values import Count
from resad.backbone import build_backbone, make_preprocess
from resad.compat.official import load_official_file
from resad.detector import FewShotModel, ResADDetector, ScoreRange
from resad.evaluate import facts
from resad.model import ResAD
from resad.recipes import PAPER, Recipe
from resad.references import encode


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig[Recipe]):
    """What config.json of a model says."""

    recipe: Recipe
    scale: ScoreRange
    residual_scale: tuple[float, ...]
    references: Mapping[str, tuple[str, ...]]
    """Files of the reference images, by category."""
    untrained_levels: tuple[Count, ...] = ()


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    tile: int | None = None,
    overlap: int | None = None,
) -> ResADDetector:
    """The detector that a training run left in its `model` folder.

    Args:
        folder: holds config.json and model.safetensors.
        category: which of the recorded references to use where none are given.
        references: normal images of the category to be scored.
        tile: cut images and references into squares of so many pixels, see `Preprocess`; None: no.
        overlap: of these; None: an eighth.

    Raises:
        BadValue: no references were given and several categories are recorded, or none.
        DatasetNotFound: a recorded reference image is gone.
    """
    config, _ = load_model(folder, Config, "resad", older=_with_precision)
    images = list(references) or recorded_references(config.references, category, folder)
    trained = load_trained(folder, device)
    preprocess = replace(trained.scorer.preprocess, tile=tile, overlap=overlap)
    few_shot, rotations = replace(trained.scorer, preprocess=preprocess), trained.recipe.rotations
    return few_shot.bind(encode(few_shot.backbone, images, few_shot.preprocess, rotations=rotations))


def load_trained(
    path: Path, device: torch.device | str = "cpu", *, given: Recipe = PAPER, weights: str = "pretrained"
) -> Trained[FewShotModel, Recipe]:
    """The trained model, in evaluation mode, not yet bound to a category.

    Args:
        path: the `model` folder that a training run left, or a `.pth` file in the authors' layout.
        given: what such a file cannot say: backbone, image size, levels.
        weights: of its backbone; of a folder "pretrained" stands for those that it names.
    """
    if path.is_file():
        backbone = build_backbone(given, weights, device)
        model, recipe = load_official_file(path, given, list(backbone.channels))
        compute = Compute.of(recipe, torch.device(device))
        few_shot = FewShotModel(backbone, model.to(device).eval(), make_preprocess(recipe), None, compute)
        return Trained(few_shot, recipe, facts(recipe, weights))
    config, tensors = load_model(path, Config, "resad", older=_with_precision)
    recipe, where = config.recipe, str(path)
    weights = named_in_config(config.weights, path) if weights == "pretrained" else weights
    channels = list(outline(lambda: build_backbone(recipe, weights, "meta"), where).channels)
    if not len(channels) == len(config.scale.levels) == len(config.residual_scale):
        raise WrongCheckpoint(
            f"{path} has {len(channels)} levels, {len(config.scale.levels)} in scale, "
            f"{len(config.residual_scale)} in residual_scale; expected one number of each level"
        )
    model = build_to_fit(
        lambda: ResAD(channels, recipe, config.residual_scale),
        lambda model: load_strict(model, tensors, where),
        tensors,
        where,
    )
    backbone = build_backbone(recipe, weights, device)
    compute = Compute.of(recipe, torch.device(device))
    few_shot = FewShotModel(backbone, model.to(device).eval(), config.preprocess, config.scale, compute)
    known = replace(config.facts, trained_on=recipe.train_dataset)
    return Trained(few_shot, recipe, known, config.categories, config.threshold)


def _with_precision(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a folder from before TF32 was a precision."""
    tf32 = recipe.pop("tf32", False)
    return recipe | {"precision": "tf32"} if tf32 and recipe.get("precision", "fp32") == "fp32" else recipe


def recorded_references(
    recorded: Mapping[str, Sequence[str]], category: str | None, folder: Path
) -> list[Path]:
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
