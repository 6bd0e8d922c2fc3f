"""The frozen part of InCTRL: a tower for images and, where it is CLIP's, one for text; and CLIP's weights."""

import hashlib
import logging
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub.constants
import open_clip
import torch
from jaxtyping import Float
from open_clip import pretrained
from torch import Tensor

from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, ChecksumMismatch, WeightsNotFound, WrongCheckpoint, unknown_name
from adcommon.io.cache import default_cache
from adcommon.models.backbones import normalisation
from adcommon.models.feature_store import FeatureStore, FrozenFeatures, cached_features
from adcommon.models.outline import outlined
from adcommon.models.weights import is_random, read_state, verify_file
from adcommon.training.recipes import is_unchosen
from adcommon.training.settings import FewShotSettings
from adcommon.types.records import Record
from inctrl.network.clip import MEAN, STD, ClipTower, build_clip, model_config, text_features
from inctrl.network.features import Tower
from inctrl.network.vision import VisionTower, shape_of
from inctrl.recipes import RECIPES, Recipe, is_clip

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

FEATURE_BATCH = 16
"""Images per pass through the tower when features are computed once."""


@dataclass(frozen=True)
class Backbone:
    """Everything that no training changes."""

    tower: Tower
    clip: open_clip.CLIP | None
    """None: vision-only, there is no text tower."""
    encoded: dict[str, Float[Tensor, "2 embed"]] = field(default_factory=dict, repr=False)
    """T of the categories asked for so far."""

    @property
    def patches(self) -> int:
        """Cells of the map."""
        return self.tower.grid[0] * self.tower.grid[1]

    def text(self, categories: Sequence[str]) -> Float[Tensor, "categories 2 embed"] | None:
        """T of each category, encoded once; None without a text tower."""
        if self.clip is None:
            return None
        for category in set(categories) - self.encoded.keys():
            self.encoded[category] = text_features(self.clip, category)
        return torch.stack([self.encoded[category] for category in categories])

    @cached_property
    def digest(self) -> str:
        """Of every frozen value; a trained model belongs to no other."""
        digest = hashlib.blake2b(digest_size=8)
        module = self.tower if self.clip is None else self.clip
        for name, value in sorted(module.state_dict().items()):
            if name.startswith("logit_"):  # no score reads it, and not every file has it
                continue
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def make_backbone(recipe: Recipe, weights: str, device: torch.device | str = "cpu") -> Backbone:
    """The frozen networks of a recipe, on a device; weights are "pretrained", "random", or a file."""
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    if not recipe.is_clip:
        if not outlined():
            logger.warning("vision-only: %s has no text tower; the text score is left out", recipe.backbone)
        tower = VisionTower(
            recipe.backbone,
            weights,
            layers=recipe.layers,
            image_size=recipe.image_size,
            out_stride=recipe.out_stride,
        )
        return Backbone(tower.to(device).to(memory_format=layout), None)
    config = model_config(recipe.backbone)
    state = None if outlined() else resolve_clip(recipe.backbone, recipe.clip_tag, weights)
    return clip_backbone(recipe, build_clip(config, state), device)


def fitted(recipe: Recipe, given: Collection[str] = ()) -> Recipe:
    """The recipe with layers and image size that its backbone has, where nobody chose them.

    Layers keep their place below the last one: of the third and fourth of five, the second and third of four
    are made. Where there are not so many, the last three are taken.

    Args:
        given: fields that the user named.
    """
    depth, side = _shape(recipe.backbone)
    layers, size = recipe.layers, recipe.image_size
    if is_unchosen("layers", recipe, RECIPES, given):
        known = [other.backbone for other in RECIPES.values() if other.layers == layers]
        if recipe.backbone not in known:
            layers = tuple(layer + depth - _shape(known[0])[0] for layer in layers)
        if min(layers) < 1:
            layers = tuple(range(max(depth - 2, 1), depth + 1))
    if side and is_unchosen("image_size", recipe, RECIPES, given):
        size = side
    if (layers, size) != (recipe.layers, recipe.image_size):
        logger.info("for %s: --layers %s --image-size %d", recipe.backbone, " ".join(map(str, layers)), size)
    return replace(recipe, layers=layers, image_size=size)


def _shape(backbone: str) -> tuple[int, int | None]:
    """How many layers a backbone has, and the only side of images that it takes; None: any."""
    if not is_clip(backbone):
        return shape_of(backbone)
    vision = model_config(backbone)["vision_cfg"]
    return vision["layers"], vision.get("image_size")


def clip_backbone(recipe: Recipe, clip: open_clip.CLIP, device: torch.device | str = "cpu") -> Backbone:
    """The same of a CLIP that is there already.

    Raises:
        BadValue: the recipe's images have not the size that this CLIP reads.
    """
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    tower = ClipTower(clip.to(device).to(memory_format=layout), recipe.backbone, recipe.layers)
    if tower.size != recipe.image_size:
        raise BadValue(
            f"image_size is {recipe.image_size}; '{recipe.backbone}' reads images of {tower.size} pixels: "
            f"--image-size {tower.size}"
        )
    return Backbone(tower, clip)


def feature_store(
    tower: FrozenFeatures,
    records: Sequence[Record],
    preprocess: Preprocess,
    settings: FewShotSettings,
    accelerator: "Accelerator | None" = None,
    *,
    kept: bool = True,
) -> FeatureStore:
    """What the tower says of images, computed now where it is not yet stored.

    Args:
        settings: whether decoded images and features are kept on disk too, and how many in memory.
        accelerator: of several processes that share the work.
        kept: False computes it whenever it is asked for.
    """
    images = default_cache("images", enabled=settings.cache)
    if not kept:
        dataset = AnomalyDataset(records, preprocess, images)
        return FeatureStore(tower, dataset, FEATURE_BATCH, None, memory_bytes=0)
    dataset = AnomalyDataset(records, preprocess, images, memory_bytes=0)
    features = default_cache("features", enabled=settings.cache)
    memory, workers = settings.memory_bytes(), settings.workers
    return cached_features(
        tower, dataset, FEATURE_BATCH, features, memory_bytes=memory, workers=workers, accelerator=accelerator
    )


def make_preprocess(recipe: Recipe, image_size: int | None = None) -> Preprocess:
    """How the recipe's images are made, normalised as the backbone's weights want it.

    Args:
        image_size: another side than the recipe's, pixels.
    """
    mean, std = (MEAN, STD) if recipe.is_clip else normalisation(recipe.backbone)
    return Preprocess(
        image_size=image_size or recipe.image_size,
        fit=recipe.fit,
        interpolation="bicubic",
        rgb=recipe.rgb,
        upright=recipe.upright,
        white=recipe.white,
        mean=mean,
        std=std,
    )


def resolve_clip(model: str, tag: str, weights: str = "pretrained") -> dict[str, Tensor] | None:
    """The entries of a CLIP under open_clip's names, or None if they are to be drawn at random.

    open_clip 3.3 lists one repository of the hub for two sets of weights of ViT-B-16-plus-240 and prefers the
    hub, so that asking it for `laion400m_e32` silently gives epoch 31. Here the published *file* of a tag is
    used, and the digits in its name are compared with its SHA-256; a file of the user's is refused if it is
    known to be another tag's.

    Args:
        weights: "pretrained", "random", or the path of a file.

    Raises:
        WeightsNotFound: says which file to put where.
        ChecksumMismatch: another file than the one it is called after, or than the tag says.
    """
    if is_random(weights):
        logger.warning("RANDOM CLIP WEIGHTS, for trials only: scores mean nothing backbone=%s", model)
        return None
    path = _published(model, tag) if weights == "pretrained" else Path(weights).expanduser()
    if not path.is_file():
        raise WeightsNotFound(
            f"no weights file {path} for '{model}'; expected 'pretrained', 'random', or the path of a file"
        )
    verify_file(path)
    if weights != "pretrained":
        _check_tag(path, model, tag)
    logger.info("CLIP weights backbone=%s file=%s", model, path)
    try:
        state = read_state(path)
    except WrongCheckpoint as error:
        raise WrongCheckpoint(
            f"{error}\n  Expected the tensors of a CLIP under open_clip's names."
        ) from error
    return {name.removeprefix("module."): tensor.float() for name, tensor in state.items()}


def _check_tag(path: Path, model: str, tag: str) -> None:
    """Refuse a file that is another tag's by its SHA-256 or its name; warn if neither tells."""
    names = [path.name, *(part for part in path.parts if part.startswith("models--"))]  # the hub's cache
    tags = pretrained.list_pretrained_tags_by_model(model)
    digits = {known: found for known in tags if (found := published_digits(model, known))}
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    by_digits = [known for known, found in digits.items() if actual.startswith(found)]
    by_name = [known for known in tags if any(known in name for name in names)]
    told = by_digits or by_name
    if told and tag not in told:
        reason = "SHA-256" if by_digits else "name"
        raise ChecksumMismatch(
            f"{path} holds the weights '{told[0]}' of '{model}' by its {reason}, not '{tag}'; pass the file "
            f"of '{tag}', or --clip-tag {told[0]} if these are meant"
        )
    if tag in digits and not by_digits:
        logger.warning(
            "%s is not the published file of '%s' (SHA-256 %s, expected %s): whether it holds the same "
            "weights cannot be told",
            *(path, tag, actual[:8], digits[tag][:8]),
        )


def published_digits(model: str, tag: str) -> str:
    """The first digits of the SHA-256 of a tag's published file, which its address holds; else nothing."""
    url = pretrained.get_pretrained_cfg(model, tag).get("url", "")
    found = re.search(r"/([0-9a-f]{64})/[^/]+$|-([0-9a-f]{8,})\.\w+$", url)
    return "" if found is None else found[1] or found[2]


def _published(model: str, tag: str) -> Path:
    """The file of a tag on this machine, fetched if it is not there."""
    config = pretrained.get_pretrained_cfg(model, tag)
    if not config:
        known = pretrained.list_pretrained_tags_by_model(model)
        if not known:
            raise WeightsNotFound(
                f"'{model}' has no published weights; pass a file with --weights FILE, or --weights random"
            )
        raise unknown_name(f"weights of '{model}'", tag, known)
    url = config.get("url", "")
    file = url.rsplit("/", 1)[-1] or f"{model}-{tag}.safetensors"
    given = os.environ.get("AD_WEIGHTS")
    fetched = ("~/.cache/clip", "~/.cache/huggingface/clip")  # where open_clip leaves its files
    folders = [*([given] if given else []), *fetched, str(Path(torch.hub.get_dir(), "checkpoints"))]
    for folder in folders:
        if (path := Path(folder).expanduser() / file).is_file():
            return path
    reason = "HF_HUB_OFFLINE is set"
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        try:
            found = pretrained.download_pretrained(config, prefer_hf_hub=False)
            if found:
                return Path(found)
            reason = "no address is known"
        except (OSError, HTTPException, RuntimeError) as error:
            if "SHA256" in str(error):
                raise ChecksumMismatch(f"{url} sent another file than it should: {error}") from error
            reason = str(error)
    place = given or folders[-1]
    raise WeightsNotFound(
        f"the weights '{tag}' of '{model}' are not on this machine and were not downloaded ({reason}).\n"
        f"  File: {file}\n  URL:  {url or config.get('hf_hub')}\n"
        f"  Put it into {place} (the folder named by AD_WEIGHTS, if that is set), or pass it by "
        "--weights FILE; a timm backbone such as --backbone tf_efficientnet_lite0.in1k needs no CLIP."
    )
