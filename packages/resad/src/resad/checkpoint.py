"""A trained ResAD and what is known of it, from a model folder or from a checkpoint of the authors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.models.checkpoint import Trained, load_model, load_strict
from adcommon.training.recipes import from_json
from resad.backbone import build_backbone, make_preprocess
from resad.compat.official import load_official_file
from resad.detector import FewShotModel, ResADDetector, ScoreRange
from resad.evaluate import facts
from resad.model import ResAD
from resad.recipes import PAPER, Recipe
from resad.references import encode


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

    Raises:
        BadValue: no references were given and several categories are recorded, or none.
        DatasetNotFound: a recorded reference image is gone.
    """
    config, _ = load_model(folder, method="resad")
    images = list(references) or recorded_references(config["references"], category, folder)
    few_shot = load_trained(folder, device).scorer
    return few_shot.bind(encode(few_shot.backbone, images, few_shot.preprocess))


def load_trained(
    path: Path, device: torch.device | str = "cpu", *, given: Recipe = PAPER, weights: str = "pretrained"
) -> Trained[FewShotModel, Recipe]:
    """The trained model, in evaluation mode, not yet bound to a category.

    Args:
        path: the `model` folder that a training run left, or a `.pth` file in the authors' layout.
        given: what such a file cannot say: backbone, image size, levels.
        weights: of its backbone.
    """
    if path.is_file():
        backbone = build_backbone(given, weights, device)
        model, recipe = load_official_file(path, given, list(backbone.channels))
        few_shot = FewShotModel(backbone, model.to(device).eval(), make_preprocess(recipe), None)
        return Trained(few_shot, recipe, facts(recipe, weights))
    config, tensors = load_model(path, method="resad")
    recipe = from_json(Recipe, config["recipe"])
    backbone = build_backbone(recipe, config["weights"], device)
    model = ResAD(list(backbone.channels), recipe, config["residual_scale"])
    load_strict(model, tensors, where=str(path))
    scale = ScoreRange(tuple(config["scale"]["levels"]), config["scale"]["total"])
    preprocess = Preprocess(**config["preprocess"])
    few_shot = FewShotModel(backbone, model.to(device).eval(), preprocess, scale)
    return Trained.of(few_shot, recipe, {**config, "trained_on": recipe.train_dataset})


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
