"""A trained InCTRL and what is known of it: in a model folder, or in a checkpoint of the authors."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.models.checkpoint import Trained, load_model, load_strict, save_trained
from adcommon.models.compute import Compute
from adcommon.models.config import ModelConfig
from adcommon.models.outline import build_to_fit, outline
from adcommon.models.weights import named_in_config
from adcommon.training.run import Run
from adcommon.types.records import Record
from adcommon.types.values import Positive
from inctrl.backbone import Backbone, clip_backbone, make_backbone, make_preprocess
from inctrl.compat.official import load_checkpoint
from inctrl.detector import FewShotModel, InCTRLDetector
from inctrl.evaluate import facts
from inctrl.model import InCTRL, build
from inctrl.network.clip import build_clip, model_config
from inctrl.published import PAPER
from inctrl.recipes import MVTEC, Recipe
from inctrl.references import from_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig[Recipe]):
    """What config.json of a model says."""

    recipe: Recipe
    epoch: Positive
    """That the weights are of."""
    frozen: str
    """Digest of the frozen network."""


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
    tile: int | None = None,
    overlap: int | None = None,
) -> InCTRLDetector:
    """The detector in a `model` folder of a training run, or in a checkpoint of the authors.

    Args:
        folder: holds config.json and model.safetensors; or a file such as checkpoint_6.pyth.
        category: what the images show, for the text tower: "metal_nut"; vision-only models need none.
        references: normal images of it; any number.
        tile: cut images and references into squares of so many pixels, see `Preprocess`; None: no.
        overlap: of these; None: an eighth.

    Raises:
        BadValue: no references, or no category where there is a text tower.
    """
    trained = load_trained(folder, device)
    if not references:
        raise BadValue(
            "InCTRL compares an image with normal ones: pass a folder of them with --references DIR "
            "(of a dataset's category: uv run inctrl-test --category NAME)"
        )
    if trained.scorer.backbone.clip is not None and category is None:
        raise BadValue(
            f"'{trained.recipe.backbone}' reads what the images show: pass --category NAME, such as metal_nut"
        )
    preprocess = replace(trained.scorer.preprocess, tile=tile, overlap=overlap)
    few_shot = replace(trained.scorer, preprocess=preprocess)
    return few_shot.bind(category or "object", from_images(references, preprocess))


def load_trained(
    path: Path,
    device: torch.device | str = "cpu",
    *,
    weights: str | None = None,
    backbone: str = MVTEC.backbone,
    layers: tuple[int, ...] = MVTEC.layers,
) -> Trained[FewShotModel, Recipe]:
    """The model that becomes a detector with references, and what is known of it.

    Args:
        weights: of the frozen network, where a folder's are no longer where they were.
        backbone: CLIP model of an authors' checkpoint, which brings its weights.
        layers: its blocks.

    Raises:
        WrongCheckpoint: not one, or one that was trained on other frozen weights.
    """
    if path.is_file():
        sizes = model_config(backbone)
        size = sizes["vision_cfg"].get("image_size", 224)
        recipe = replace(MVTEC, backbone=backbone, layers=layers, image_size=size)
        checkpoint = load_checkpoint(path)
        frozen = clip_backbone(recipe, build_clip(sizes, checkpoint.clip), device)
        model = _filled(frozen, recipe, checkpoint.trained, path)
        return Trained(model, recipe, facts(recipe, str(path), None))
    config, tensors = load_model(path, Config, "inctrl")
    recipe = config.recipe
    source = weights or named_in_config(config.weights, path)
    _build_trained(outline(lambda: make_backbone(recipe, source, "meta"), str(path)), recipe, tensors, path)
    frozen = make_backbone(recipe, source, device)
    if frozen.digest != config.frozen:
        raise WrongCheckpoint(
            f"{path} was trained on other weights of '{recipe.backbone}': their digest is "
            f"{config.frozen}, that of {source} is {frozen.digest}; pass the right file with --weights"
        )
    model = _filled(frozen, recipe, tensors, path)
    known = replace(config.facts, weights=source)
    return Trained(model, recipe, known, config.categories, config.threshold)


def _build_trained(frozen: Backbone, recipe: Recipe, tensors: dict[str, Tensor], where: Path) -> InCTRL:
    return build_to_fit(
        lambda: build(recipe, frozen.tower.embed, frozen.patches),
        lambda model: load_strict(model, tensors, str(where)),
        tensors,
        str(where),
    )


def _filled(frozen: Backbone, recipe: Recipe, tensors: dict[str, Tensor], where: Path) -> FewShotModel:
    model = _build_trained(frozen, recipe, tensors, where)
    device = next(frozen.tower.parameters()).device
    compute = Compute.of(recipe, device)
    return FewShotModel(model.to(device).eval(), frozen, make_preprocess(recipe), recipe.rotations, compute)


def save(
    folder: Path,
    trained: Trained[FewShotModel, Recipe],
    *,
    epoch: int,
    learned_from: Sequence[Record],
    rows: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a model folder: adapter and heads, and which frozen weights they belong to.

    Args:
        epoch: that the weights are of.
        learned_from: the training images.
    """
    save_trained(
        folder,
        trained.scorer.model.state_dict(),
        PAPER,
        trained.facts,
        recipe=trained.recipe,
        preprocess=trained.scorer.preprocess,
        categories=trained.categories,
        learned_from=learned_from,
        rows=rows,
        own={"epoch": epoch, "frozen": trained.scorer.backbone.digest},
    )


def selected_epoch(recipe: Recipe) -> int:
    """The epoch whose weights are exported."""
    wanted = recipe.select_epoch or recipe.epochs
    if wanted > recipe.epochs:
        logger.warning("epoch %d was to be exported and %d were run: the last is", wanted, recipe.epochs)
    return min(wanted, recipe.epochs)


def epoch_folder(run: Run, epoch: int) -> Path:
    """Where the weights after an epoch, from 1, are kept."""
    return run.epochs / f"{epoch:03}"
