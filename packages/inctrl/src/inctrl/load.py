"""A trained InCTRL with the frozen network it belongs to, from a model folder or the authors' checkpoint."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.checkpoints import load_model, load_strict
from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.preprocess import Preprocess
from inctrl.backbone import Backbone, clip_backbone, make_backbone, make_preprocess
from inctrl.clip import build_clip, model_config
from inctrl.detector import InCTRLDetector
from inctrl.model import InCTRL
from inctrl.official import load_checkpoint
from inctrl.recipes import MVTEC, Recipe
from inctrl.references import References, encode_references

logger = logging.getLogger(__name__)

RUNS = Path("runs")
"""Where models are looked for if none is named."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What is needed to score images, but for references."""

    model: InCTRL
    backbone: Backbone
    preprocess: Preprocess
    recipe: Recipe
    shots: int | None
    """References it was trained with; None where its file does not say."""
    weights: str
    """Where the frozen network's weights came from."""
    encoded: dict[str, Float[Tensor, "2 embed"]] = field(default_factory=dict)
    """T of the categories asked for so far."""

    def text(self, category: str) -> Float[Tensor, "2 embed"] | None:
        """T of a category, encoded once."""
        if self.backbone.clip is not None and category not in self.encoded:
            self.encoded.update(self.backbone.text([category]) or {})
        return self.encoded.get(category)

    def detector(self, category: str, references: References) -> InCTRLDetector:
        """The detector of a category, whose references are encoded now."""
        features = encode_references(self.backbone.tower, references.images)
        return InCTRLDetector(self.model, self.backbone.tower, self.text(category), features, self.preprocess)


def load_trained(
    path: Path,
    *,
    weights: str | None = None,
    backbone: str = MVTEC.backbone,
    device: torch.device | str = "cpu",
) -> Trained:
    """Load a `model` folder of a training run, or a checkpoint of the authors.

    Args:
        path: the folder or file.
        weights: of the frozen network, where a folder's are no longer where they were.
        backbone: CLIP model of an authors' checkpoint, which brings its weights.

    Raises:
        WrongCheckpoint: not one, or one that was trained on other frozen weights.
    """
    if path.is_file():
        config = model_config(backbone)
        recipe = replace(MVTEC, backbone=backbone, image_size=config["vision_cfg"]["image_size"])
        checkpoint = load_checkpoint(path)
        clip = build_clip(config, checkpoint.clip)
        frozen = clip_backbone(recipe, clip, device)
        return _filled(frozen, recipe, checkpoint.trained, str(path), None, str(path), device)
    config, tensors = load_model(path, method="inctrl")
    recipe = Recipe.from_json(config["recipe"])
    source = weights or config["weights"]
    frozen = make_backbone(recipe, source, device)
    if (digest := frozen.digest()) != config["frozen"]:
        raise WrongCheckpoint(
            f"{path} was trained on other weights of '{recipe.backbone}': their digest is "
            f"{config['frozen']}, that of {source} is {digest}; pass the right file with --weights"
        )
    return _filled(frozen, recipe, tensors, str(path), config["shots"], source, device)


def _filled(
    frozen: Backbone,
    recipe: Recipe,
    tensors: dict[str, Tensor],
    where: str,
    shots: int | None,
    weights: str,
    device: torch.device | str,
) -> Trained:
    model = InCTRL(frozen.tower.embed, frozen.patches)
    load_strict(model, tensors, where=where)
    return Trained(model.to(device).eval(), frozen, make_preprocess(recipe), recipe, shots, weights)


def find_model(shots: int | None, root: Path = RUNS) -> Path:
    """The only model below runs/inctrl-*, or the only one of them that was trained with these shots.

    Raises:
        BadValue: there is none, or several.
    """
    found = sorted(root.glob("inctrl-*/*/model"))
    fitting = [path for path in found if path.parent.name == f"{shots}-shot"] if shots else found
    if len(fitting or found) == 1:
        (model,) = fitting or found
        logger.info("model %s", model)
        return model
    if not found:
        raise BadValue(
            f"no model below {root}/inctrl-*; train one with uv run inctrl-train, or pass a model folder or "
            "the authors' checkpoint with --model"
        )
    raise BadValue(f"several models: {', '.join(map(str, fitting or found))}; say which with --model")
