"""From images, or features kept of them, to image scores and residual maps; and back from a model folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.models.anomaly_maps import upsample
from adcommon.models.checkpoint import load_model, load_strict
from adcommon.types.prediction import Prediction
from inctrl.backbone import Backbone, clip_backbone, make_backbone, make_preprocess
from inctrl.compat.official import load_checkpoint
from inctrl.model import InCTRL
from inctrl.network.clip import build_clip, model_config
from inctrl.network.features import Features, Tower, as_features
from inctrl.network.residual import patch_residual, text_score, unit
from inctrl.recipes import MVTEC, Recipe
from inctrl.references import References, encode_references, from_images


class InCTRLDetector:
    """A trained InCTRL bound to the references of one category; image scores are in (0, 1).

    The map is the residual of each patch, M in the paper, in [0, 1]; higher is more anomalous.
    """

    def __init__(
        self,
        model: InCTRL,
        tower: Tower,
        text: Float[Tensor, "2 embed"] | None,
        references: Features,
        preprocess: Preprocess,
    ) -> None:
        """Bind a model, in evaluation mode, to what is computed once: text and references.

        Args:
            model: on the tower's device.
            tower: the frozen network.
            text: T of the category; None without a text tower.
            references: what the tower says of the k normal images.
            preprocess: how images are made.
        """
        self.model = model.eval()
        self.tower = tower
        self.device = next(tower.parameters()).device
        self.preprocess = preprocess
        self.text = None if text is None else text[None].to(self.device)
        self.reference_tokens = references.tokens[None].to(self.device)
        self.reference_patches = [
            level.flatten(0, 1)[None].to(self.device) for level in unit(references.levels)
        ]

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "batch 3 height width"]) -> Prediction:
        """Image scores, and maps at the images' size; both on the tower's device."""
        return self.score_features(as_features(self.tower(images.to(self.device))))

    @torch.inference_mode()
    def score_features(self, query: Features) -> Prediction:
        """The same from what the tower said of images."""
        residual_map = patch_residual(query.levels, self.reference_patches)
        told = None if self.text is None else text_score(query.tokens, self.text)
        outputs = self.model(query.tokens, self.reference_tokens, residual_map, told)
        size = self.preprocess.size
        maps = upsample(residual_map.unflatten(1, self.tower.grid), size, align_corners=False)
        return Prediction(outputs.final, maps)


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
    layers: tuple[int, ...] = MVTEC.layers,
    device: torch.device | str = "cpu",
) -> Trained:
    """Load a `model` folder of a training run, or a checkpoint of the authors.

    Args:
        path: the folder or file.
        weights: of the frozen network, where a folder's are no longer where they were.
        backbone: CLIP model of an authors' checkpoint, which brings its weights.
        layers: its blocks.

    Raises:
        WrongCheckpoint: not one, or one that was trained on other frozen weights.
    """
    if path.is_file():
        config = model_config(backbone)
        size = config["vision_cfg"].get("image_size", 224)
        recipe = replace(MVTEC, backbone=backbone, layers=layers, image_size=size)
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


def load_detector(
    folder: Path,
    *,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> InCTRLDetector:
    """The detector in a `model` folder of a training run, or in a checkpoint of the authors.

    Args:
        folder: holds config.json and model.safetensors; or a file such as checkpoint_6.pyth.
        category: what the images show, for the text tower: "metal_nut"; vision-only models need none.
        references: normal images of it; any number.
        device: where everything goes.

    Raises:
        BadValue: no references, or no category where there is a text tower.
    """
    trained = load_trained(folder, device=device)
    if not references:
        raise BadValue(
            "InCTRL compares an image with normal ones: pass a folder of them with --references DIR "
            "(of a dataset's category: uv run inctrl-test --category NAME)"
        )
    if trained.backbone.clip is not None and category is None:
        raise BadValue(
            f"'{trained.recipe.backbone}' reads what the images show: pass --category NAME, such as metal_nut"
        )
    return trained.detector(category or "object", from_images(references, trained.preprocess))
