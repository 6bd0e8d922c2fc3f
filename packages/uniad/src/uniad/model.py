"""UniAD: a transformer rebuilds the features of a frozen network; where it fails, the image is anomalous.

*A Unified Model for Multi-class Anomaly Detection*, You et al., NeurIPS 2022 (arXiv 2206.03687), section 3:
one model for all categories. Three devices keep it from copying its input: queries that belong to each
decoder layer, attention that must not see its own neighbourhood, and noise on the features while training.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniad.backbone import AlignedFeatures
from uniad.network.attention import barrier_of, neighbour_mask
from uniad.network.position import make_position
from uniad.network.transformer import Queries, Transformer
from uniad.network.whitening import Whitening
from uniad.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the losses and the anomaly map are made of."""

    features: Float[Tensor, "batch channels grid_height grid_width"]
    """Of the frozen backbone, aligned, and whitened if the model does that."""
    rebuilt: Float[Tensor, "batch channels grid_height grid_width"]
    """The same, as the transformer sees them."""


class Reconstruction(nn.Module):
    """Jitter, projection, transformer, projection back: features -> features of the same shape."""

    barrier: Float[Tensor, "tokens tokens"]

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        *,
        hidden_dim: int = 256,
        heads: int = 8,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        queries: Queries = "layers",
        feedforward: int = 1024,
        dropout: float = 0.1,
        activation: str = "relu",
        pre_norm: bool = False,
        position: str = "learned",
        neighbourhood: tuple[int, int] = (7, 7),
        masked: tuple[bool, bool, bool] = (True, True, True),
        jitter_scale: float = 20.0,
        jitter_prob: float = 1.0,
    ) -> None:
        """The paper's network for a grid of tokens.

        Args:
            channels: of the features.
            grid: rows and columns of the features.
            queries: which layers of the decoder have learned ones.
            masked: whether the neighbour mask applies in the encoder, and in the decoder's first and second
                attention.
            jitter_scale: of the noise, in mean absolute feature values; 0: none.
            jitter_prob: share of the training batches that get noise.
        """
        super().__init__()
        self.grid, self.jitter_scale, self.jitter_prob = grid, jitter_scale, jitter_prob
        self.masked = masked
        self.pos_embed = make_position(position, grid, hidden_dim)
        self.transformer = Transformer(
            grid[0] * grid[1],
            hidden_dim,
            heads,
            encoder_layers,
            decoder_layers,
            feedforward,
            dropout,
            activation,
            pre_norm=pre_norm,
            queries=queries,
        )
        self.input_proj = nn.Linear(channels, hidden_dim)
        self.output_proj = nn.Linear(hidden_dim, channels)
        nothing = torch.zeros(1, 1, dtype=torch.bool)
        forbidden = neighbour_mask(grid, neighbourhood) if any(masked) else nothing
        self.register_buffer("barrier", barrier_of(forbidden), persistent=False)

    def forward(
        self,
        features: Float[Tensor, "batch channels grid_height grid_width"],
        noise: Float[Tensor, "batch tokens channels"] | None = None,
    ) -> Float[Tensor, "batch channels grid_height grid_width"]:
        """Rebuild the features; while training, from a jittered copy of them.

        Args:
            noise: standard normal numbers for the jitter; None: drawn here.
        """
        tokens = features.flatten(2).transpose(1, 2)
        if self.training and self.jitter_scale and _happens(self.jitter_prob):
            if noise is None:  # in the same order whatever the memory layout of the features
                noise = torch.randn(tokens.shape, dtype=tokens.dtype, device=tokens.device)
            tokens = jitter(tokens, noise, self.jitter_scale)
        in_encoder, to_memory, to_previous = (self.barrier if masked else None for masked in self.masked)
        rebuilt = self.transformer(
            self.input_proj(tokens), self.pos_embed(), (in_encoder, to_memory, to_previous)
        )
        return self.output_proj(rebuilt).transpose(1, 2).unflatten(2, self.grid)


class UniAD(nn.Module):
    """Frozen backbone with its neck, and the trained reconstruction."""

    def __init__(
        self, backbone: AlignedFeatures, reconstruction: Reconstruction, whitening: Whitening | None = None
    ) -> None:
        """Put the parts together; without whitening the features are rebuilt as they are."""
        super().__init__()
        self.backbone = backbone
        self.reconstruction = reconstruction
        self.whitening = whitening

    @torch.no_grad()
    def features(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels grid_height grid_width"]:
        """What is to be rebuilt; constant per image."""
        return self.prepared(self.backbone(images)[0])

    @torch.no_grad()
    def prepared(
        self, aligned: Float[Tensor, "batch channels grid_height grid_width"]
    ) -> Float[Tensor, "batch channels grid_height grid_width"]:
        """The same from the backbone's aligned features, which may have been kept."""
        return aligned if self.whitening is None else self.whitening(aligned)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Outputs:
        """Features of images and their reconstruction."""
        features = self.features(images)
        return Outputs(features, self.reconstruction(features))

    def rebuilt(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels grid_height grid_width"]:
        """The reconstruction as features of the backbone, for pictures of it."""
        rebuilt = self.forward(images).rebuilt
        return rebuilt if self.whitening is None else self.whitening.undo(rebuilt)


def build(recipe: Recipe, *, weights: str | None = "pretrained") -> UniAD:
    """The untrained model of a recipe; draws from torch's global generator.

    Args:
        weights: the backbone's: "pretrained", "random" or a file; None: a checkpoint will fill the model.
    """
    backbone = make_backbone(recipe, weights)
    side = recipe.image_size // recipe.out_stride
    reconstruction = Reconstruction(
        backbone.channels,
        (side, side),
        hidden_dim=recipe.hidden_dim,
        heads=recipe.heads,
        encoder_layers=recipe.encoder_layers,
        decoder_layers=recipe.decoder_layers,
        feedforward=recipe.feedforward,
        dropout=recipe.dropout,
        activation=recipe.activation,
        pre_norm=recipe.pre_norm,
        position=recipe.position,
        neighbourhood=recipe.neighbourhood,
        queries=recipe.queries,
        masked=recipe.masked,
        jitter_scale=recipe.jitter_scale,
        jitter_prob=recipe.jitter_prob,
    )
    initialise(reconstruction, recipe.initialisation)
    return UniAD(backbone, reconstruction, Whitening(backbone.channels) if recipe.whiten else None)


def make_backbone(recipe: Recipe, weights: str | None) -> AlignedFeatures:
    """The frozen part of a recipe's model; `weights` as for `build`."""
    return AlignedFeatures(
        recipe.backbone,
        weights,
        strides=recipe.strides,
        out_stride=recipe.out_stride,
        fixed_padding=recipe.fixed_padding,
        channels_last=recipe.channels_last,
    )


def jitter(
    tokens: Float[Tensor, "batch tokens channels"],
    noise: Float[Tensor, "batch tokens channels"],
    scale: float,
) -> Float[Tensor, "batch tokens channels"]:
    """Add noise of deviation scale * |token| / channels to every channel of every token (section 3.2)."""
    return tokens + noise * (scale / tokens.shape[2]) * tokens.norm(dim=2, keepdim=True)


def distance(outputs: Outputs) -> Float[Tensor, "batch grid_height grid_width"]:
    """Euclidean distance between features and reconstruction at every position; higher is more anomalous."""
    return (outputs.rebuilt - outputs.features).square().sum(dim=1).sqrt()


def initialise(module: nn.Module, method: str) -> None:
    """Start values of all convolutions and linear layers; biases 0, batch norms 1 and 0.

    Packed projections, embeddings and layer norms keep their own.

    Args:
        method: "xavier_uniform", "xavier_normal", "msra_uniform", "msra_normal" (Kaiming with a = 1), or
            "normal" (deviation 0.01).
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            _fill(layer.weight, method)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _fill(weight: Tensor, method: str) -> None:
    match method:
        case "xavier_uniform":
            nn.init.xavier_uniform_(weight)
        case "xavier_normal":
            nn.init.xavier_normal_(weight)
        case "msra_uniform":
            nn.init.kaiming_uniform_(weight, a=1)
        case "msra_normal":
            nn.init.kaiming_normal_(weight, a=1)
        case _:
            nn.init.normal_(weight, std=0.01)


def _happens(probability: float) -> bool:
    return probability >= 1 or torch.rand(()).item() < probability
