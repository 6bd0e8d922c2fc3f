"""UniAD: an epoch on kept features against one as the reference runs it, and its attention alone, in one run.

The reference-style epoch decodes and resizes 900x900 PNG files, runs the whole EfficientNet-B4 (its last
stages and classifier included, whose output nobody reads), and a sequence-first transformer of torch's
MultiheadAttention, which returns weights nobody reads and gets a mask rebuilt by two Python loops at every
forward. Ours reads kept features. Both start from the same weights and see the same batches and jitter; where
losses are compared there is no dropout. B4's weights are random, which changes neither time nor equality.

    python benchmarks/bench_uniad.py [--images 24] [--rounds 3] [--size 224]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from adcommon.data.normalise import normalise
from adcommon.models.backbones import FeaturePyramid
from adcommon.types.records import Record
from uniad.backbone import pad_as_reference
from uniad.data import feature_store
from uniad.detector import make_preprocess
from uniad.model import Reconstruction, build
from uniad.network.attention import Attention, barrier_of, neighbour_mask
from uniad.optimiser import make_optimiser, seed_step, update
from uniad.recipes import MVTEC, Recipe

SIDE = 900
Step = Callable[[int, list[int]], float]
"""Of this number, with these images; returns the loss."""


def draw(folder: Path, count: int) -> list[Record]:
    """Soft shapes under a camera's noise, which compress about as well as photographs of products."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        shapes = Image.fromarray(rng.integers(40, 216, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = (soft + rng.normal(0, 2, soft.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:04}.png")
        records.append(Record(folder / f"{number:04}.png", "drawn", label=0))
    return records


class ReferenceAttention(nn.Module):
    """torch's attention with the weights of ours, sequence first, its mask made anew at each forward."""

    def __init__(self, ours: Attention, grid: tuple[int, int], reach: int) -> None:
        super().__init__()
        width = ours.out_proj.in_features
        self.attention = nn.MultiheadAttention(width, ours.heads, dropout=ours.dropout)
        self.attention.load_state_dict(ours.state_dict())
        self.grid, self.reach = grid, reach

    def mask(self) -> Tensor:
        height, width = self.grid
        mask = torch.zeros(height, width, height, width)
        for row in range(height):
            for column in range(width):
                rows = slice(max(row - self.reach, 0), row + self.reach + 1)
                columns = slice(max(column - self.reach, 0), column + self.reach + 1)
                mask[row, column, rows, columns] = float("-inf")
        return mask.view(height * width, height * width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return self.attention(query, key, value, attn_mask=mask)[0]


class ReferenceReconstruction(nn.Module):
    """The same network as ours, written as the reference is: sequence first, queries repeated per image."""

    def __init__(self, ours: Reconstruction, recipe: Recipe) -> None:
        super().__init__()
        self.ours, self.recipe = ours, recipe
        reach = recipe.neighbourhood[0] // 2

        def attention(layer: nn.Module, name: str) -> ReferenceAttention:
            return ReferenceAttention(getattr(layer, name), ours.grid, reach)

        encoder, decoder = ours.transformer.encoder.layers, ours.transformer.decoder.layers
        self.encoder: Any = nn.ModuleList(attention(layer, "self_attn") for layer in encoder)
        self.first: Any = nn.ModuleList(attention(layer, "self_attn") for layer in decoder)
        self.second: Any = nn.ModuleList(attention(layer, "multihead_attn") for layer in decoder)

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        ours, transformer = self.ours, self.ours.transformer
        batch = len(features)
        tokens = features.flatten(2).permute(2, 0, 1)
        tokens = (
            tokens + self.recipe.jitter_scale * tokens.norm(dim=2, keepdim=True) / tokens.shape[2] * noise
        )
        position = ours.pos_embed()[:, None].repeat(1, batch, 1)
        out = ours.input_proj(tokens)
        layer: Any  # with the entries of the reference
        for layer, attend in zip(transformer.encoder.layers, self.encoder, strict=True):
            placed = out + position
            out = layer.norm1(out + layer.dropout(attend(placed, placed, out, attend.mask())))
            out = layer.norm2(out + layer.dropout(self.feed(layer, out)))
        memory = previous = out
        for layer, first, second in zip(transformer.decoder.layers, self.first, self.second, strict=True):
            queries = layer.learned_embed.weight[:, None].repeat(1, batch, 1)
            seen = first(queries + position, memory + position, memory, first.mask())
            out = layer.norm1(queries + layer.dropout(seen))
            seen = second(out + position, previous + position, previous, second.mask())
            out = layer.norm2(out + layer.dropout(seen))
            previous = layer.norm3(out + layer.dropout(self.feed(layer, out)))
        rebuilt = ours.output_proj(transformer.decoder.norm(previous))
        return rebuilt.permute(1, 2, 0).unflatten(2, ours.grid)

    @staticmethod
    def feed(layer: Any, tokens: Tensor) -> Tensor:
        return layer.linear2(layer.dropout(layer.act(layer.linear1(tokens))))


class WholeBackbone(nn.Module):
    """All of EfficientNet-B4, whose maps are tapped on the way."""

    def __init__(self, pyramid: FeaturePyramid) -> None:
        super().__init__()
        self.network: Any = timm.create_model("tf_efficientnet_b4", pretrained=False).eval()
        pad_as_reference(self.network, "tf_efficientnet_b4")
        self.network.load_state_dict(pyramid.trunk.state_dict(), strict=False)
        self.taps = (0, 1, 2, 4)

    @torch.no_grad()
    def forward(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        out = self.network.bn1(self.network.conv_stem(images))
        maps = []
        for number, stage in enumerate(self.network.blocks):
            out = stage(out)
            if number in self.taps:
                maps.append(out)
        self.network.forward_head(self.network.bn2(self.network.conv_head(out)))
        resized = [F.interpolate(m, grid, mode="bilinear", align_corners=True) for m in maps]
        return torch.cat(resized, dim=1)


def epochs(
    records: list[Record], recipe: Recipe, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each epoch and the losses of every step, for both ways, in turns."""
    preprocess, accelerator = make_preprocess(recipe), Accelerator(cpu=True)
    batches = [
        list(range(first, min(first + recipe.batch_size, len(records))))
        for first in range(0, len(records), recipe.batch_size)
    ]

    def reference() -> Step:
        torch.manual_seed(0)
        model = build(recipe, weights="random").train()
        network, backbone = (
            ReferenceReconstruction(model.reconstruction, recipe),
            WholeBackbone(model.backbone.pyramid),
        )
        network.train()
        parameters = [p for n, p in network.named_parameters() if "_attn" not in n]
        optimiser, _ = make_optimiser(parameters, recipe, len(batches))

        def step(number: int, indices: list[int]) -> float:
            seed_step(0, 0, number)
            pixels = np.stack([preprocess.pixels(records[index].image) for index in indices])
            features = backbone(normalise(torch.from_numpy(pixels), preprocess), model.reconstruction.grid)
            shape = len(features), features[0, 0].numel(), features.shape[1]
            noise = torch.randn(shape).transpose(0, 1)
            loss = (network(features, noise) - features).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
            optimiser.step()
            return loss.item()

        return step

    def ours() -> Step:
        torch.manual_seed(0)
        model = build(recipe, weights="random").train()
        optimiser, _ = make_optimiser(model.reconstruction.parameters(), recipe, len(batches))
        store = feature_store(model, records, preprocess, cache=False)

        def step(number: int, indices: list[int]) -> float:
            seed_step(0, 0, number)
            (features,) = store.batch(indices)
            loss, _ = update(
                model.reconstruction, features, optimiser, accelerator, clip_norm=recipe.clip_norm
            )
            return loss.item()

        return step

    steps = {"reference": reference(), "ours": ours()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, list[float]] = {name: [] for name in steps}
    for epoch in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            losses[name] += [step(epoch * len(batches) + i, indices) for i, indices in enumerate(batches)]
            seconds[name].append(time.perf_counter() - began)
    return seconds, losses


def attention(
    recipe: Recipe, rounds: int, *, training: bool
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of one masked attention, and the bytes its forward keeps for the backward pass."""
    side = recipe.image_size // recipe.out_stride
    ours = Attention(recipe.hidden_dim, recipe.heads, recipe.dropout).train(training)
    reference = ReferenceAttention(ours, (side, side), recipe.neighbourhood[0] // 2).train(training)
    barrier = barrier_of(neighbour_mask((side, side), recipe.neighbourhood))
    tokens = torch.randn(recipe.batch_size, side * side, recipe.hidden_dim, requires_grad=training)
    swapped = tokens.detach().transpose(0, 1).contiguous().requires_grad_(training)
    calls = {
        "reference": lambda: reference(swapped, swapped, swapped, reference.mask()),
        "ours": lambda: ours(tokens, tokens, tokens, barrier),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    memory: dict[str, int] = {}
    for name, call in calls.items():
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            call()
        memory[name] = sum(kept.values())
    for _ in range(rounds):
        for name, call in calls.items():
            with torch.set_grad_enabled(training):
                began = time.perf_counter()
                out = call()
                if training:
                    out.sum().backward()
            seconds[name].append(time.perf_counter() - began)
    return seconds, memory


def middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def ratios(seconds: Mapping[str, list[float]]) -> str:
    values = sorted(a / b for a, b in zip(seconds["reference"][1:], seconds["ours"][1:], strict=True))
    return f"{middle(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--size", type=int, default=MVTEC.image_size)
    options = parser.parse_args()
    recipe = replace(MVTEC, image_size=options.size)
    print(
        f"{torch.get_num_threads()} threads, {options.images} PNG files of {SIDE}x{SIDE} pixels, "
        f"network input {options.size}x{options.size}"
    )

    with tempfile.TemporaryDirectory() as folder:
        records = draw(Path(folder), options.images)
        for name, kind in (("as in the paper", recipe), ("without dropout", replace(recipe, dropout=0.0))):
            seconds, losses = epochs(records, kind, options.rounds)
            half = {way: middle(values[1:]) for way, values in seconds.items()}
            print(
                f"epoch {name}: reference-style {half['reference']:.2f} s, kept features "
                f"{half['ours']:.2f} s, ratio {ratios(seconds)}"
            )
            if not kind.dropout:
                pairs = zip(losses["reference"], losses["ours"], strict=True)
                print(f"  losses differ by {max(abs(a - b) / a for a, b in pairs):.1e} at most, relative")
    for training in (False, True):
        seconds, memory = attention(recipe, 20, training=training)
        half = {way: 1000 * middle(values[1:]) for way, values in seconds.items()}
        print(
            f"attention {'forward and backward' if training else 'forward'}: reference-style "
            f"{half['reference']:.1f} ms, ours {half['ours']:.1f} ms, ratio {ratios(seconds)}"
        )
        if training:
            kept = {way: size / 2**20 for way, size in memory.items()}
            print(f"  kept for the backward pass: {kept['reference']:.1f} MiB, ours {kept['ours']:.1f} MiB")


if __name__ == "__main__":
    main()
