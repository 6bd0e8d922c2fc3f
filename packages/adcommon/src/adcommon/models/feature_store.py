"""Frozen features of a dataset, each image's computed once; for methods that do not augment.

A frozen backbone maps an unchanging image to unchanging features, so training on features needs
neither the images nor the backbone after the first pass.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

from adcommon.data.ahead import on_device
from adcommon.data.loading import AnomalyDataset, ordered_indices
from adcommon.data.processes import results
from adcommon.errors import BadValue
from adcommon.io.cache import DiskCache
from adcommon.models.sharing import meet, place_of

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

DEFAULT_MEMORY_BYTES = 2 * 2**30
"""Features kept in memory: 10,000 images of 272 channels on 14x14 cells in float32."""
SHARE_OF_GPU = 0.5
"""Of a GPU's free memory, what all features of a dataset may take to be kept there."""


@runtime_checkable
class FrozenFeatures(Protocol):
    """A module that never changes and maps images to a list of feature maps: `FeaturePyramid`, or more.

    It computes in evaluation mode, without gradients; all that decides its maps is in tag, repr and state.
    """

    tag: str
    """Name of the network."""
    strides: tuple[int, ...]
    """Pixels per cell of each map, in order."""

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """One map per stride."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of any module; they say on which device it computes."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """As of any module."""
        ...


class FeatureStore:
    """Feature maps by the image's position in a dataset: from memory, else the cache, else computed."""

    def __init__(
        self,
        network: FrozenFeatures,
        dataset: AnomalyDataset,
        batch_size: int,
        cache: DiskCache | None = None,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        """Nothing is computed before it is asked for.

        Args:
            network: computes on the device of its parameters.
            dataset: whose images are the same in every epoch.
            batch_size: images per pass through the network.
            cache: keeps features between runs, under a key made of the images' content, the preprocessing,
                the backbone and its weights.
            memory_bytes: limit of what is kept in the host's memory. What fits neither there nor in the cache
                is computed again whenever it is asked for. A network's GPU that has room for the features of
                all images keeps them itself, whatever the limit.
        """
        if batch_size < 1:
            raise BadValue(f"batch_size is {batch_size}; expected at least 1")
        self.network = network
        self.dataset = dataset
        self.batch_size = batch_size
        self.cache = cache
        self._kept = _Kept(len(dataset), memory_bytes)
        preprocess = dataset.preprocess
        arithmetic = _arithmetic(self._device())
        self._recipe = f"{_digest(network)} {arithmetic} {preprocess.mean} {preprocess.std}"

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def batch(
        self, indices: Sequence[int] | Int64[Tensor, " batch"]
    ) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """The maps of these images, one tensor per stride: float32, on the network's device, no gradients."""
        device = self._device()
        wanted = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        if wanted and all(index in self._kept for index in wanted):
            return self._kept.rows(wanted, device)
        maps = {index: levels for index in wanted if (levels := self._stored(index)) is not None}
        missing = dict.fromkeys(index for index in wanted if index not in maps)
        maps.update(self._compute([*self._groups(list(missing))]))
        by_level = zip(*(maps[index] for index in wanted), strict=True)
        return [torch.stack(level).to(device) for level in by_level]

    def fill(self, workers: int | None = 0, accelerator: "Accelerator | None" = None) -> None:
        """Compute what neither memory nor the cache holds; `workers` processes load the images, 0: this one.

        An image always passes through the network in the same company, the images of its batch in the
        dataset's order, because the last digits of a convolution may depend on it: so a run that was killed
        here and resumed has the same features as one that was not.

        Args:
            accelerator: of several processes that all call this: each computes its share of the batches, and
                finds the others' in the cache. Without a cache, or with one of its own, it computes all.
        """
        rank, world = place_of(accelerator)
        computed = 0
        if self.cache is not None and world > 1:
            computed = self._fill(ordered_indices(len(self), self.batch_size, rank, world), workers)
            meet(accelerator)
        computed += self._fill(ordered_indices(len(self), self.batch_size), workers)
        logger.info(
            "frozen features backbone=%s images=%d computed=%d", self.network.tag, len(self), computed
        )

    def _fill(self, batches: Sequence[list[int]], workers: int | None) -> int:
        """Compute the batches that are not yet stored; the number of their images."""
        groups = [group for group in batches if not all(map(self._is_stored, group))]
        total = sum(map(len, groups))
        shown = tqdm(
            self._compute(groups, workers), "frozen features", total, unit="image", disable=None, leave=False
        )
        return sum(1 for _ in shown)

    def _is_stored(self, index: int) -> bool:
        if index in self._kept:
            return True
        return self.cache is not None and all(key in self.cache for key in self._keys(index))

    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _stored(self, index: int) -> list[Tensor] | None:
        if index in self._kept:
            return self._kept[index]
        if self.cache is None:
            return None
        arrays = [array for key in self._keys(index) if (array := self.cache.get(key)) is not None]
        if len(arrays) < len(self.network.strides):
            return None
        levels = [torch.from_numpy(array.copy()) for array in arrays]  # they are read-only
        self._kept.add(index, levels, self._device())
        return levels

    def _groups(self, indices: Sequence[int]) -> Iterator[list[int]]:
        """The images of one pass after the other."""
        for first in range(0, len(indices), self.batch_size):
            yield list(indices[first : first + self.batch_size])

    def _compute(
        self, groups: Sequence[list[int]], workers: int | None = 0
    ) -> Iterator[tuple[int, list[Tensor]]]:
        """The maps of the images of each pass, as they are stored, but on the network's device."""
        device = self._device()
        read = results(self.dataset.pixel_batch, groups, workers, seed=0)
        for some, batch in zip(groups, on_device(read, self.dataset.preprocess, device), strict=True):
            with torch.no_grad():
                maps = [level.float().contiguous() for level in self.network(batch.images)]
            on_host = [level.cpu().numpy() for level in maps] if self.cache is not None else []
            for row, index in enumerate(some):
                levels = [level[row].clone() for level in maps]  # not the memory of the whole pass
                self._kept.add(index, levels, device)
                for key, array in zip(self._keys(index) if on_host else (), on_host, strict=True):
                    assert self.cache is not None
                    self.cache.put(key, array[row])
                yield index, levels

    def _keys(self, index: int) -> list[str]:
        """One key for each level."""
        content = self.dataset.content_key(index)
        strides = enumerate(self.network.strides)
        return [f"{self._recipe} {content} level {level} stride {stride}" for level, stride in strides]


class _Kept:
    """Maps of as many images as there is room for, in one block of memory for each level."""

    def __init__(self, count: int, memory_bytes: int) -> None:
        """There are no blocks before the first maps say how large they are."""
        self._count, self._memory_bytes = count, memory_bytes
        self._blocks: list[Float[Tensor, "images _channels _height _width"]] = []
        self._rows: dict[int, int] = {}

    def __contains__(self, index: int) -> bool:
        return index in self._rows

    def __getitem__(self, index: int) -> list[Tensor]:
        return [block[self._rows[index]] for block in self._blocks]

    def rows(self, indices: Sequence[int], device: torch.device) -> list[Tensor]:
        """The maps of these images, which are all here, on a device."""
        rows = torch.tensor([self._rows[index] for index in indices])
        if self._blocks[0].device.type == "cuda":
            rows = rows.pin_memory().to(device, non_blocking=True)
        chosen = [block.index_select(0, rows) for block in self._blocks]
        if device.type == "cuda" and self._blocks[0].device.type == "cpu":
            chosen = [level.pin_memory() for level in chosen]
        return [level.to(device, non_blocking=True) for level in chosen]

    def add(self, index: int, levels: Sequence[Tensor], device: torch.device) -> None:
        """Keep the maps of an image, as long as there is room; blocks are on the device if all fit there."""
        if not self._blocks:
            self._blocks = self._made(levels, device)
        if index not in self._rows and len(self._rows) < len(self._blocks[0]):
            row = self._rows[index] = len(self._rows)
            for block, level in zip(self._blocks, levels, strict=True):
                block[row] = level

    def _made(self, levels: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        size = sum(level.nbytes for level in levels)
        room, where = min(self._count, self._memory_bytes // size), torch.device("cpu")
        if device.type == "cuda" and self._count * size <= SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]:
            room, where = self._count, device
        with torch.inference_mode(False):  # maps are added later, inside and outside of it
            return [torch.empty(room, *level.shape, device=where) for level in levels]


def cached_features(
    network: FrozenFeatures,
    dataset: AnomalyDataset,
    batch_size: int,
    cache: DiskCache | None = None,
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    workers: int | None = 0,
    accelerator: "Accelerator | None" = None,
) -> FeatureStore:
    """A `FeatureStore` of every image of a dataset, computed now where it is not yet stored.

    Args:
        workers: processes that load images; 0 loads in this one.
        accelerator: of several processes that share the work, see `FeatureStore.fill`.
    """
    store = FeatureStore(network, dataset, batch_size, cache, memory_bytes=memory_bytes)
    store.fill(workers, accelerator)
    return store


def _arithmetic(device: torch.device) -> str:
    """What convolutions on a device are computed in: part of a key, since TF32 gives other features."""
    return "tf32" if device.type == "cuda" and torch.backends.cudnn.allow_tf32 else "float32"


def _digest(network: FrozenFeatures) -> str:
    """Hash of the network's structure and of every value in it."""
    digest = hashlib.blake2b(f"{network.tag} {network.strides} {network}".encode(), digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
