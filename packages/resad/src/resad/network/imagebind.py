"""ImageBind's image tower (arXiv 2305.05665) as a frozen backbone: a ViT-H/14, four maps of 16x16 tokens.

Entries are named as in `imagebind_huge.pth`, of which only the image tower is read. Written from the shapes
and the formulas of the Vision Transformer; the weights are the owners', licence CC BY-NC-SA 4.0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adcommon.errors import WeightsNotFound
from adcommon.models.backbones import repeatable_draws
from adcommon.models.checkpoint import load_strict
from adcommon.models.outline import Undrawn, outlined
from adcommon.models.pickles import load_foreign

Images = Float[Tensor, "batch 3 height width"]
Tokens = Float[Tensor, "batch tokens channels"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
IMAGE_SIZE = 224
PATCH = 14
FRAMES = 2
"""Times a still image is repeated for the stem, which was made for video."""
WIDTH, DEPTH, HEADS, EMBEDDING = 1280, 32, 16, 1024
LAYERS = (7, 15, 23, 31)
"""Blocks whose tokens are taken, counted from 0."""
NORM_EPS = 1e-6
DEFAULT_FILE = Path("pretrained_weights/imagebind/imagebind_huge.pth")
_OWN = ("modality_preprocessors.vision.", "modality_trunks.vision.", "modality_heads.vision.")


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        """All entries are there to be loaded."""
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, tokens: Tokens) -> Tokens:
        """What each token gathers from all."""
        batch, count, width = tokens.shape
        projected = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Perceptron(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int) -> None:
        """Four times as wide inside."""
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tokens) -> Tokens:
        """Each token by itself."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        """Attention, then a perceptron."""
        super().__init__()
        self.attn = Attention(width, heads)
        self.norm_1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Perceptron(width)
        self.norm_2 = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, tokens: Tokens) -> Tokens:
        """Both with a shortcut."""
        tokens = tokens + self.attn(self.norm_1(tokens))
        return tokens + self.mlp(self.norm_2(tokens))


class ImageTower(nn.Module):
    """The image part of ImageBind."""

    def __init__(
        self, width: int = WIDTH, depth: int = DEPTH, heads: int = HEADS, embedding: int = EMBEDDING
    ) -> None:
        """Build the tower; smaller ones are for tests."""
        super().__init__()
        cells = (IMAGE_SIZE // PATCH) ** 2
        stem = nn.Conv3d(3, width, (FRAMES, PATCH, PATCH), (FRAMES, PATCH, PATCH), bias=False)
        positions = nn.Module()
        positions.pos_embed = nn.Parameter(torch.zeros(1, cells + 1, width))
        entrance = nn.Module()
        entrance.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        entrance.rgbt_stem = nn.ModuleDict({"proj": nn.ModuleList([nn.Identity(), stem])})
        entrance.pos_embedding_helper = positions
        self.modality_preprocessors = nn.ModuleDict({"vision": entrance})
        trunk = {
            "pre_transformer_layer": nn.ModuleList([nn.LayerNorm(width, eps=NORM_EPS)]),
            "blocks": nn.ModuleList(Block(width, heads) for _ in range(depth)),
        }
        self.modality_trunks = nn.ModuleDict({"vision": nn.ModuleDict(trunk)})
        head = [nn.LayerNorm(width, eps=NORM_EPS), nn.Identity(), nn.Linear(width, embedding, bias=False)]
        self.modality_heads = nn.ModuleDict({"vision": nn.ModuleList(head)})

    def tokens(self, images: Images, layers: Sequence[int]) -> list[Tokens]:
        """Tokens after these blocks, class token first, without a final norm."""
        vision = "modality_preprocessors.vision"
        # A still image is the same frame twice: the stem's two slices add up to one 2-D kernel.
        kernel = self.get_parameter(f"{vision}.rgbt_stem.proj.1.weight").sum(dim=2)
        patches = F.conv2d(images, kernel, stride=PATCH).flatten(2).transpose(1, 2)
        start = self.get_parameter(f"{vision}.cls_token").expand(len(images), -1, -1)
        tokens = torch.cat([start, patches], dim=1)
        tokens = tokens + self.get_parameter(f"{vision}.pos_embedding_helper.pos_embed")
        tokens = self.get_submodule("modality_trunks.vision.pre_transformer_layer.0")(tokens)
        kept = {}
        for number, block in enumerate(self._blocks[: max(layers) + 1]):
            tokens = block(tokens)
            kept[number] = tokens
        return [kept[layer] for layer in layers]

    def embed(self, images: Images) -> Float[Tensor, "batch embedding"]:
        """ImageBind's image embedding, of length 1."""
        (last,) = self.tokens(images, (len(self._blocks) - 1,))
        norm, project = (self.get_submodule(f"modality_heads.vision.{place}") for place in (0, 2))
        return F.normalize(project(norm(last[:, 0])), dim=1)

    @property
    def _blocks(self) -> nn.ModuleList:
        return cast(nn.ModuleList, self.get_submodule("modality_trunks.vision.blocks"))

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.get_parameter("modality_preprocessors.vision.cls_token").shape[2]

    def load(self, state: dict[str, Tensor], where: str) -> None:
        """Fill the tower from an ImageBind state dict, whose other modalities are passed over."""
        load_strict(self, {name: value for name, value in state.items() if name.startswith(_OWN)}, where)


class ImageBindFeatures(nn.Module):
    """The frozen tower as a feature pyramid: four maps of one stride."""

    def __init__(
        self, weights: str = "pretrained", tower: ImageTower | None = None, layers: Sequence[int] = LAYERS
    ) -> None:
        """Build and fill the tower.

        Args:
            weights: "pretrained" (`pretrained_weights/imagebind/imagebind_huge.pth`), a file, or "random".
            tower: a smaller one, for tests.
            layers: blocks whose tokens become maps.
        """
        super().__init__()
        self.tag = "imagebind"
        file = None if weights == "random" or outlined() else find_weights(weights)
        with repeatable_draws() if file is None else Undrawn():
            self.trunk = ImageTower() if tower is None else tower
        if file is not None:
            self.trunk.load(load_foreign(file), str(file))
        self.trunk.requires_grad_(False)
        self.layers = tuple(layers)
        self.strides = (PATCH,) * len(self.layers)
        self.channels = (self.trunk.width,) * len(self.layers)
        self.eval()

    def train(self, mode: bool = True) -> "ImageBindFeatures":
        """Stay in eval mode, whatever the network around it does."""
        return super().train(False)

    def forward(self, images: Images) -> list[Float[Tensor, "batch channels grid grid"]]:
        """One map per layer, without the class token."""
        side = images.shape[2] // PATCH
        with torch.no_grad():
            tokens = self.trunk.tokens(images, self.layers)
        return [level[:, 1:].transpose(1, 2).unflatten(2, (side, side)) for level in tokens]


def find_weights(weights: str) -> Path:
    """The file of ImageBind's weights; a missing one is an error that says where it belongs."""
    file = DEFAULT_FILE if weights == "pretrained" else Path(weights)
    if not file.is_file():
        raise WeightsNotFound(
            f"no ImageBind weights at {file}; put imagebind_huge.pth (4.5 GB, licence CC BY-NC-SA 4.0) into "
            f"{DEFAULT_FILE.parent}, or name it with --weights FILE\n"
            "  It is https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth"
        )
    return file
