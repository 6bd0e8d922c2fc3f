"""Training items: normal images, and what they look like with synthetic anomalies; section 3.1."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy.random import Generator
from torch import Tensor

import realnet.synthesis.foreground
import realnet.synthesis.opencv
from adcommon.data.ahead import ahead
from adcommon.data.loading import AnomalyDataset
from adcommon.data.normalise import normalise
from adcommon.data.order import train_indices
from adcommon.data.preprocess import Preprocess
from adcommon.data.processes import results
from adcommon.io.cache import code_digest
from realnet.synthesis.blend import blend, visible
from realnet.synthesis.foreground import ALL, ForegroundRule
from realnet.synthesis.perlin import PerlinScales, draw_masks
from realnet.synthesis.sources import Source

NORMAL = "normal"
"""The share of images that stay as they are."""
REDRAWS = 10
"""Attempts at a mask that is not empty: an image may have no foreground at all."""


@dataclass(frozen=True, slots=True)
class ItemPixels:
    """Training items as they are made, on their way to the device."""

    clean: UInt8[Tensor, "batch height width 3"]
    pixels: UInt8[Tensor, "batch height width 3"]
    """With the anomalies."""
    masks: Bool[Tensor, "batch height width"]
    anomalous: Bool[Tensor, " batch"]
    indices: Int64[Tensor, " batch"]

    def pin_memory(self) -> "ItemPixels":
        """The same in page-locked memory, which a GPU copies from while the host goes on."""
        sent = (self.clean.pin_memory(), self.pixels.pin_memory(), self.masks.pin_memory())
        return ItemPixels(*sent, self.anomalous, self.indices)


@dataclass(frozen=True, slots=True)
class ItemBatch:
    """What training consumes; images are normalised by the dataset's `Preprocess`."""

    clean: Float[Tensor, "batch 3 height width"]
    images: Float[Tensor, "batch 3 height width"]
    """Equal to `clean` where not anomalous."""
    masks: Float[Tensor, "batch height width"]
    """1 where an anomaly was blended in, else 0."""
    anomalous: Bool[Tensor, " batch"]
    """Drawn as an anomaly; its mask may still be empty."""
    indices: Int64[Tensor, " batch"]
    """Positions among the training records."""

    def __len__(self) -> int:
        """Number of items."""
        return len(self.images)


@dataclass(frozen=True, kw_only=True)
class TrainingItems:
    """Makes batches of training items; all chance depends on the seed, the step and the images asked for."""

    dataset: AnomalyDataset
    """The normal training images; keeps decoded images and their foregrounds."""
    sources: Mapping[str, Source]
    """What is blended in, by name."""
    shares: Mapping[str, float]
    """Probability of each source, and of "normal"; they sum to 1, and not all are normal."""
    opacity: Mapping[str, tuple[float, float]]
    """Lowest and highest opacity of each source, in [0, 1]; drawn once for each image."""
    foreground: ForegroundRule
    """Where anomalies may lie."""
    scales: PerlinScales
    redraw_empty: bool = False
    """Draw masks again that leave no anomaly, as the reference does not."""
    least_change: float = 0.0
    """Masks leave out what an anomaly changes by less, see `blend.visible`; 0: nothing."""
    seed: int

    def __post_init__(self) -> None:
        """Refuse scales that make no sense, or do not fit the image size."""
        self.scales.check(self.dataset.preprocess.size)

    def batch(self, indices: Sequence[int], step: int, *, normals: bool = True) -> ItemBatch:
        """The items of `pixels`, on the CPU."""
        return placed(self.pixels(indices, step, normals=normals), self.dataset.preprocess, "cpu")

    def pixels(self, indices: Sequence[int], step: int, *, normals: bool = True) -> ItemPixels:
        """The items of some images at a step.

        Args:
            indices: positions among the training records.
            step: number of the batch; the same images get other anomalies at another step.
            normals: False makes an anomaly of every image, each source equally likely; for choosing features.
        """
        generator = np.random.default_rng([self.seed, step, int(normals), *indices])
        shares = {name: share for name, share in self.shares.items() if share > 0}
        if not normals:
            shares = dict.fromkeys(shares.keys() - {NORMAL}, 1.0)
        names = sorted(shares)
        odds = np.array([shares[name] for name in names])
        kinds = np.array(names)[generator.choice(len(names), len(indices), p=odds / odds.sum())]

        clean = self.dataset.pixels(indices)
        pixels, masks = clean.copy(), np.zeros(clean.shape[:3], dtype=bool)
        chosen = np.flatnonzero(kinds != NORMAL)
        if len(chosen):
            pixels[chosen], masks[chosen] = self._anomalies(
                clean[chosen], [indices[place] for place in chosen.tolist()], kinds[chosen], generator
            )
        return ItemPixels(
            torch.from_numpy(clean),
            torch.from_numpy(pixels),
            torch.from_numpy(masks),
            torch.from_numpy(kinds != NORMAL),
            torch.tensor(indices, dtype=torch.int64),
        )

    def _anomalies(
        self,
        pixels: UInt8[np.ndarray, "batch size size 3"],
        indices: Sequence[int],
        kinds: np.ndarray,
        generator: Generator,
    ) -> tuple[UInt8[np.ndarray, "batch size size 3"], Bool[np.ndarray, "batch size size"]]:
        """The images with anomalies, and where these are."""
        count, size = pixels.shape[:2]
        foregrounds = self._foregrounds(indices)
        masks = draw_masks(generator, count, size, self.scales) & foregrounds
        for _ in range(REDRAWS if self.redraw_empty else 0):
            empty = np.flatnonzero(~masks.any(axis=(1, 2)))
            if len(empty) == 0:
                break
            masks[empty] = draw_masks(generator, len(empty), size, self.scales) & foregrounds[empty]
        textures, opacity = np.empty_like(pixels), np.empty(count)
        for name in sorted(set(kinds.tolist())):
            members = np.flatnonzero(kinds == name)
            textures[members] = self.sources[name].draw(generator, len(members), size)
            opacity[members] = generator.uniform(*self.opacity[name], len(members))
        blended = blend(pixels, textures, masks, opacity)
        return blended, masks & visible(pixels, blended, self.least_change) if self.least_change else masks

    def _foregrounds(self, indices: Sequence[int]) -> Bool[np.ndarray, "batch size size"]:
        """Computed once for each image: they depend on nothing else."""
        if self.foreground == ALL:
            size = self.dataset.preprocess.size
            return np.ones((len(indices), size, size), dtype=bool)
        code = code_digest(realnet.synthesis.foreground, realnet.synthesis.opencv)
        kind = f"{self.foreground} {code} scikit-image {version('scikit-image')}"
        return np.stack(
            [self.dataset.keep(kind, index, partial(self._foreground, index)) for index in indices]
        )

    def _foreground(self, index: int) -> Bool[np.ndarray, "size size"]:
        return self.foreground(self.dataset.pixels([index]))[0]


def placed(items: ItemPixels, preprocess: Preprocess, device: torch.device | str) -> ItemBatch:
    """Items with images and masks on `device`; the rest stays where it is."""
    clean, pixels, masks = (
        sent.to(device, non_blocking=True) for sent in (items.clean, items.pixels, items.masks)
    )
    images = normalise(pixels, preprocess)
    return ItemBatch(normalise(clean, preprocess), images, masks.float(), items.anomalous, items.indices)


def item_batches(
    items: TrainingItems,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    workers: int | None = 0,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
    normals: bool = True,
) -> Iterator[ItemBatch]:
    """Batches without end, in the order of `adcommon.data.order.train_indices`.

    Batch number n is the same whatever `start` and `workers` are. Arguments are those of
    `adcommon.data.loading.train_batches` and of `TrainingItems.batch`.
    """
    order = train_indices(len(items.dataset), batch_size, seed=seed, start=start, rank=rank, world=world)
    made = results(partial(_numbered, items, normals), enumerate(order, start), workers, seed=seed)
    return ahead(made, partial(placed, preprocess=items.dataset.preprocess, device=device), device)


def _numbered(items: TrainingItems, normals: bool, key: tuple[int, list[int]]) -> ItemPixels:
    step, indices = key
    return items.pixels(indices, step, normals=normals)
