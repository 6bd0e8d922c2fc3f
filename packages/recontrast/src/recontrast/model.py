"""ReContrast's network (arXiv 2306.02602): two encoders, one bottleneck, one decoder.

    image --> encoder (trained) -------> trained features --+                 +--> rebuilt FROZEN features
                                                            +--> bottleneck --+    (from_trained)
                                                            |    and decoder  |
    image --> encoder_freeze (never) --> frozen features  --+                 +--> rebuilt TRAINED features
                                                                                   (from_frozen)

The pairs are crossed: each target is compared with what the decoder makes of the *other* encoder's features.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import BadValue
from adcommon.models.anomaly_maps import cosine_distance
from adcommon.models.backbones import create_trunk
from recontrast.network.bottleneck import Bottleneck, plan_of
from recontrast.network.decoder import Decoder
from recontrast.network.partial_norm import replace_norms
from recontrast.recipes import Recipe

STRIDE = 32
"""Pixels per cell of the code: the sides of an image must be multiples of it."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Two crossed pairs of targets and reconstructions, in float32 at least, also under autocast.

    Each has three levels, at 1/4, 1/8 and 1/16 of the image.
    """

    frozen_features: list[Float[Tensor, "batch _ _ _"]]
    """Targets from the frozen encoder."""
    from_trained: list[Float[Tensor, "batch _ _ _"]]
    """Their reconstructions from the trained encoder's features."""
    trained_features: list[Float[Tensor, "batch _ _ _"]]
    """Targets from the trained encoder."""
    from_frozen: list[Float[Tensor, "batch _ _ _"]]
    """Their reconstructions from the frozen encoder's features."""

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The six (target, reconstruction) pairs: three with frozen targets, then three with trained ones."""
        return [
            *zip(self.frozen_features, self.from_trained, strict=True),
            *zip(self.trained_features, self.from_frozen, strict=True),
        ]


class ReContrast(nn.Module):
    """Contrastive reconstruction between a trained encoder and a frozen copy of it."""

    def __init__(
        self,
        encoder: nn.Module,
        backbone: str,
        *,
        decoder_activation: Literal["relu", "gelu"] = "relu",
        encoder_norm_train: bool = False,
        partial_norm: float | None = None,
        encoder_eps: float | None = None,
        encoders: Literal["crossed", "frozen", "trained"] = "crossed",
    ) -> None:
        """Mirror a pretrained encoder; it becomes the trained one, its copy the frozen one.

        Args:
            encoder: timm trunk whose forward gives the feature maps of strides 4, 8 and 16.
            backbone: its timm tag; a ResNet's decides how bottleneck and decoder mirror it.
            decoder_activation: inside the decoder's blocks.
            encoder_norm_train: the trained encoder's norms use batch statistics while training.
            partial_norm: variance threshold of the PartialNorm that replaces them; None: ordinary batch norm.
            encoder_eps: their epsilon; None: as it is.
            encoders: whose features are rebuilt, see the recipe; of one encoder both pairs are the same.
        """
        super().__init__()
        self.encoder_norm_train = encoder_norm_train
        channels: list[int] = encoder.feature_info.channels()  # type: ignore[union-attr, operator]
        plan = plan_of(backbone)
        self.encoder = encoder
        # Faithful: copied before epsilon is lowered. It keeps batch norm: PartialNorm in eval mode.
        self.encoder_freeze = deepcopy(encoder).requires_grad_(False)
        if encoder_eps is not None:
            for norm in encoder.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.eps = encoder_eps
        if partial_norm is not None:
            replace_norms(encoder, partial_norm)
        self.encoders = encoders
        if encoders == "frozen":
            encoder.requires_grad_(False)
        self.bottleneck = Bottleneck(channels, plan)
        self.decoder = Decoder(channels, plan, decoder_activation)
        if encoders != "crossed":
            for heads in (self.decoder.out1, self.decoder.out2, self.decoder.out3):
                heads[1].requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "ReContrast":
        """Bottleneck and decoder follow `mode`, the trained encoder if made so, the frozen one never."""
        super().train(mode)
        self.encoder.train(mode and self.encoder_norm_train)
        self.encoder_freeze.eval()
        return self

    @torch.no_grad()
    def frozen_features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch _ _ _"]]:
        """The frozen encoder's features; constant per image, so they may be kept and given to `forward`."""
        return self.encoder_freeze(images)

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        frozen: list[Float[Tensor, "batch _ _ _"]] | None = None,
    ) -> Outputs:
        """Features of both encoders and their crossed reconstructions.

        Bottleneck and decoder see both encoders' features as one batch (trained first): their batch
        statistics are joint, and two separate passes would give other numbers.

        Args:
            frozen: what `frozen_features(images)` gave; None: computed here.
        """
        if images.shape[2] % STRIDE or images.shape[3] % STRIDE:
            raise BadValue(
                f"images of {images.shape[2]}x{images.shape[3]} pixels; ReContrast needs sides that are "
                f"multiples of {STRIDE} (--image-size, --crop-size)"
            )
        if self.encoders == "trained":
            frozen = trained = self.encoder(images)
        else:
            frozen = self.frozen_features(images) if frozen is None else frozen
            trained = frozen if self.encoders == "frozen" else self.encoder(images)
        code = self.bottleneck(trained, frozen)
        from_trained, from_frozen = self.decoder(code)
        if self.encoders != "crossed":
            from_frozen = from_trained  # one encoder needs one set of heads
        return Outputs(*map(_full_precision, (frozen, from_trained, trained, from_frozen)))


class FrozenEncoder(nn.Module):
    """The frozen encoder by itself, as a `FeatureStore` takes it; shares its weights."""

    strides: tuple[int, ...] = (4, 8, 16)

    def __init__(self, model: ReContrast, tag: str) -> None:
        """Of a model whose backbone has this tag."""
        super().__init__()
        self.encoder, self.tag = model.encoder_freeze, tag

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """As `ReContrast.frozen_features`."""
        return self.encoder(images)


class WithPartialNorm:
    """A model whose state includes the variances that PartialNorm remembers, which are in no checkpoint."""

    def __init__(self, model: ReContrast) -> None:
        """Nothing is copied."""
        self._model = model

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"entries": self._model.state_dict(), "partial_norm": self._variances()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the entries first, which overwrite the variances."""
        self._model.load_state_dict(state_dict["entries"])
        for name, buffer in self._variances().items():
            buffer.copy_(state_dict["partial_norm"][name])

    def _variances(self) -> dict[str, Tensor]:
        buffers = self._model.named_buffers()
        return {name: buffer for name, buffer in buffers if name.rpartition(".")[2] == "pretrained_var"}


def build(recipe: Recipe, *, weights: str | None = "pretrained", category: str = "") -> ReContrast:
    """The untrained model of a recipe, its encoders with their backbone's weights.

    Args:
        weights: the backbone's: "pretrained", "random" or a file; None: a checkpoint will fill the model.
        category: decides the encoder's norm mode where the recipe says "auto".
    """
    return ReContrast(
        create_trunk(recipe.backbone, weights),
        recipe.backbone,
        decoder_activation=recipe.decoder_activation,
        encoder_norm_train=recipe.trains_encoder_norm(category),
        partial_norm=recipe.partial_norm,
        encoder_eps=recipe.encoder_eps,
        encoders=recipe.encoders,
    )


def distance_maps(outputs: Outputs) -> list[Float[Tensor, "batch _ _"]]:
    """Cosine distance of the six pairs at every position, in [0, 2]; higher is more anomalous."""
    return [cosine_distance(target, reconstruction) for target, reconstruction in outputs.pairs()]


def _full_precision(levels: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
    """Losses and maps are differences of nearly equal numbers, which 16 bits cannot hold."""
    return [level.float() if level.dtype in (torch.float16, torch.bfloat16) else level for level in levels]
