"""Pretrained trunks: timm networks that return feature maps, one per stride or per block."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.data.messages import shorten
from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.models import weights as weight_files
from adcommon.models.convolution import quicken
from adcommon.models.efficientnet import entry_names
from adcommon.models.outline import Undrawn, is_outline, outlined, refuse_large
from adcommon.models.transformers import TokenMaps, fitted_positions, token_maps

SUITABLE = "such as --backbone tf_efficientnet_lite0.in1k, resnet18.tv_in1k or wide_resnet50_2.tv_in1k"
"""Backbones with maps of every stride from 2 to 32; the first one's weights are installed."""


@contextmanager
def repeatable_draws() -> Iterator[None]:
    """Weights that are drawn inside are the same in every run; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def create_trunk(
    tag: str, weights: str | None = "pretrained", *, strides: Sequence[int] = (4, 8, 16)
) -> nn.Module:
    """A timm `features_only` network that maps images to a list of feature maps, fine to coarse.

    Its entries bear timm's names (equal to torchvision's where both have the network), and nothing above
    the last stride is kept. Random weights are the same in every run; the global generator is left alone.

    Args:
        tag: exact timm tag, "wide_resnet50_2.tv_in1k".
        weights: "pretrained", "random", or a .pth or .safetensors file; None: a checkpoint will fill it.
        strides: pixels of the image per cell of each map, rising.
    """
    import timm

    weight_files.check_tag(tag, weights or "random")
    out_indices = _out_indices(
        tag, strides, is_random=weights is not None and weight_files.is_random(weights)
    )
    state = None if weights is None or outlined() else weight_files.resolve(tag, weights)
    with repeatable_draws() if state is None else Undrawn():
        trunk = timm.create_model(
            tag.partition(".")[0], pretrained=False, features_only=True, out_indices=out_indices
        )
    _cut(trunk)
    if state is not None:
        fill_trunk(trunk, state, tag)
    return quicken(trunk)


def create_transformer(
    tag: str, weights: str | None = "pretrained", *, layers: Sequence[int], image_size: int, norm: bool = True
) -> TokenMaps:
    """A timm vision transformer that maps images to the tokens of some of its blocks, as feature maps.

    Weights that were trained at another image size fit: their position embeddings are resampled.

    Args:
        tag: exact timm tag, "vit_small_patch14_dinov2.lvd142m".
        weights: as for `create_trunk`.
        layers: blocks, counted from 0, rising.
        image_size: side of the images, pixels, a multiple of the patches'.
        norm: put every map through the network's last norm.
    """
    weight_files.check_tag(tag, weights or "random")
    if weights is not None and weight_files.is_random(weights):
        with torch.device("meta"):
            refuse_large(token_maps(tag, layers, image_size=image_size, norm=norm), tag)
    state = None if weights is None or outlined() else weight_files.resolve(tag, weights)
    with repeatable_draws() if state is None else Undrawn():
        trunk = token_maps(tag, layers, image_size=image_size, norm=norm)
    if state is not None:
        fill_trunk(trunk.network, fitted_positions(state, trunk.network), tag)
    return trunk


def fill_trunk(trunk: nn.Module, state: Mapping[str, Tensor], tag: str) -> None:
    """Fill every entry of a trunk from timm's names; only layers of the network above it may be left over.

    A trunk on the meta device is only compared.

    Raises:
        WrongCheckpoint: names the entries that are missing, unexpected or of another shape.
    """
    wanted = trunk.state_dict()
    given = {_flat(name): tensor for name, tensor in state.items()}
    whole = {_flat(name) for name in entry_names(tag.partition(".")[0])}
    # Files older than this counter lack it; nothing reads it.
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if _flat(name) not in given]
    unexpected = [name for name in state if _flat(name) not in whole]
    found = {name: given[_flat(name)] for name in wanted if _flat(name) in given}
    misshapen = [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shape": misshapen}
    if any(problems.values()):
        listed = ((word, names) for word, names in problems.items() if names)
        found_words = "; ".join(f"{len(names)} {word}: {shorten(names)}" for word, names in listed)
        raise WrongCheckpoint(f"the weights do not fit the backbone '{tag}': {found_words}")
    if not is_outline(trunk):
        trunk.load_state_dict(found, strict=False)


def normalisation(tag: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per colour, of images in [0, 1], that the weights were trained with."""
    weight_files.check_tag(tag, weights="random")  # a bare name has its architecture's usual values
    published = weight_files.pretrained_config(tag)
    return published.mean, published.std


class FeaturePyramid(nn.Module):
    """A frozen trunk, convolutional or a transformer: always in eval mode, without gradients."""

    def __init__(
        self,
        tag: str,
        weights: str | None = "pretrained",
        *,
        strides: Sequence[int] = (4, 8, 16),
        layers: Sequence[int] = (),
        image_size: int | None = None,
        norm: bool = True,
        channels_last: bool = False,
    ) -> None:
        """Build the trunk as `create_trunk` does, or, where `layers` are named, as `create_transformer`.

        Args:
            tag: exact timm tag.
            weights: "pretrained", "random", or a file; None: a checkpoint will fill it.
            strides: pixels of the image per cell of each map, rising; not for transformers.
            layers: blocks of a transformer, counted from 0, rising.
            image_size: side of the images, pixels; for transformers alone, which need it.
            norm: put a transformer's maps through its last norm.
            channels_last: memory layout that is faster on most devices; values change by rounding.
        """
        super().__init__()
        self.tag = tag
        self.is_random = weights is not None and weight_files.is_random(weights)
        self.trunk: nn.Module
        self.strides: tuple[int, ...]
        self.channels: tuple[int, ...]
        if layers and image_size is not None:
            self.trunk = create_transformer(tag, weights, layers=layers, image_size=image_size, norm=norm)
            self.strides, self.channels = self.trunk.strides, self.trunk.channels
        else:
            self.trunk = create_trunk(tag, weights, strides=strides)
            self.strides, self.channels = tuple(strides), tuple(_feature_info(self.trunk).channels())
        self.trunk.requires_grad_(False)
        self.channels_last = channels_last
        if channels_last:
            self.trunk.to(memory_format=torch.channels_last)
        self.eval()

    def train(self, mode: bool = True) -> "FeaturePyramid":
        """Stay in eval mode, whatever the network around it does."""
        return super().train(False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """One map per stride, fine to coarse, or per block of a transformer."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            return self.trunk(images)


def map_channels(tag: str) -> dict[int, int]:
    """Channels of the maps that a backbone can give, by stride, fine to coarse; nothing is loaded.

    Raises:
        UserError: no such backbone, or it gives no maps.
    """
    weight_files.check_tag(tag, weights="random")
    info = _feature_info(_described(tag))
    strides = info.reduction()
    return {
        stride: channels
        for stride, channels in zip(strides, info.channels(), strict=True)
        if strides.count(stride) == 1
    }


def _described(tag: str) -> nn.Module:
    """A backbone that gives its maps, without memory.

    Raises:
        BadValue: it gives none, or all of one stride, or none that convolutions can read.
    """
    import timm

    try:
        with torch.device("meta"):
            network = timm.create_model(tag.partition(".")[0], pretrained=False, features_only=True)
    except (RuntimeError, AttributeError) as error:
        raise BadValue(
            f"the backbone '{tag}' gives no feature maps ({error}); take one that does, {SUITABLE}"
        ) from error
    has = set(_feature_info(network).reduction())
    if len(has) == 1:
        raise BadValue(
            f"the backbone '{tag}' is a transformer, whose maps all have stride {has.pop()}; take one with "
            f"stages, {SUITABLE}, or, where the command has --layers, name its blocks: --layers 5 11"
        )
    if getattr(network, "output_fmt", "NCHW") != "NCHW":
        raise BadValue(f"the backbone '{tag}' puts channels last; take a convolutional one, {SUITABLE}")
    return network


def _out_indices(tag: str, strides: Sequence[int], *, is_random: bool) -> tuple[int, ...]:
    """Positions of the strides among the maps that the backbone can give."""
    if not strides or list(strides) != sorted(set(strides)):
        raise BadValue(f"strides are {tuple(strides)}; expected rising numbers such as (4, 8, 16)")
    network = _described(tag)
    if is_random:
        refuse_large(network, tag)
    has = _feature_info(network).reduction()
    if any(has.count(stride) != 1 for stride in strides):
        raise BadValue(
            f"the backbone '{tag}' gives maps of strides {', '.join(map(str, has))}; "
            f"asked for {', '.join(map(str, strides))}, each of which must be there once. Take one that has "
            f"them, {SUITABLE}"
        )
    return tuple(has.index(stride) for stride in strides)


def _feature_info(trunk: nn.Module) -> Any:
    """What timm knows of a trunk's maps: `channels`, `reduction` and `module_name`, each a function."""
    return trunk.feature_info


def _cut(trunk: nn.Module) -> None:
    """Drop the stages above the last map; timm does so itself, but for its EfficientNets and MobileNets."""
    parent, _, stage = _feature_info(trunk).module_name()[-1].partition(".")
    if parent == "blocks" and isinstance(trunk.blocks, nn.Sequential):
        trunk.blocks = trunk.blocks[: int(stage) + 1]


def _flat(name: str) -> str:
    """A name as timm writes it where it lifts the stages of a network: `stages.0.x` becomes `stages_0.x`."""
    return name.replace(".", "_")
