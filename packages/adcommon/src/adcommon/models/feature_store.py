"""Frozen features of a dataset, each image's computed once; for methods that do not augment.

A frozen backbone maps an unchanging image to unchanging features, so training on features needs
neither the images nor the backbone after the first pass.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

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
            memory_bytes: limit of what is kept in memory. What fits neither there nor in the cache is
                computed again whenever it is asked for.
        """
        if batch_size < 1:
            raise BadValue(f"batch_size is {batch_size}; expected at least 1")
        self.network = network
        self.dataset = dataset
        self.batch_size = batch_size
        self.cache = cache
        self._memory_bytes = memory_bytes
        self._kept: dict[int, list[np.ndarray]] = {}
        self._kept_bytes = 0
        preprocess = dataset.preprocess
        self._recipe = f"{_digest(network)} float32 {preprocess.mean} {preprocess.std}"

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def batch(
        self, indices: Sequence[int] | Int64[Tensor, " batch"]
    ) -> list[Float[Tensor, "batch _channels _height _width"]]:
        """The maps of these images, one tensor per stride: float32, on the CPU, without gradients."""
        wanted = [int(index) for index in indices]
        maps = {index: levels for index in wanted if (levels := self._stored(index)) is not None}
        missing = dict.fromkeys(index for index in wanted if index not in maps)
        maps.update(self._compute([*self._groups(list(missing))]))
        by_level = zip(*(maps[index] for index in wanted), strict=True)
        return [torch.from_numpy(np.stack(level)) for level in by_level]

    def fill(self, workers: int = 0, accelerator: "Accelerator | None" = None) -> None:
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

    def _fill(self, batches: Sequence[list[int]], workers: int) -> int:
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

    def _stored(self, index: int) -> list[np.ndarray] | None:
        if index in self._kept or self.cache is None:
            return self._kept.get(index)
        levels = [array for key in self._keys(index) if (array := self.cache.get(key)) is not None]
        if len(levels) < len(self.network.strides):
            return None
        self._keep(index, levels)
        return levels

    def _groups(self, indices: Sequence[int]) -> Iterator[list[int]]:
        """The images of one pass after the other."""
        for first in range(0, len(indices), self.batch_size):
            yield list(indices[first : first + self.batch_size])

    def _compute(
        self, groups: Sequence[list[int]], workers: int = 0
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The maps of the images of each pass, as they are stored."""
        device = next(self.network.parameters()).device
        batches = results(self.dataset.batch, groups, workers, seed=0)
        for some, batch in zip(groups, batches, strict=True):
            with torch.inference_mode():
                maps = self.network(batch.images.to(device))
            arrays = [level.float().contiguous().cpu().numpy() for level in maps]
            for row, index in enumerate(some):
                levels = [array[row].copy() for array in arrays]
                self._keep(index, levels)
                if self.cache is not None:
                    for key, level in zip(self._keys(index), levels, strict=True):
                        self.cache.put(key, level)
                yield index, levels

    def _keep(self, index: int, levels: list[np.ndarray]) -> None:
        if index in self._kept:
            return
        size = sum(level.nbytes for level in levels)
        if self._kept_bytes + size <= self._memory_bytes:
            self._kept[index] = levels
            self._kept_bytes += size

    def _keys(self, index: int) -> list[str]:
        """One key for each level."""
        content = self.dataset.content_key(index)
        strides = enumerate(self.network.strides)
        return [f"{self._recipe} {content} level {level} stride {stride}" for level, stride in strides]


def cached_features(
    network: FrozenFeatures,
    dataset: AnomalyDataset,
    batch_size: int,
    cache: DiskCache | None = None,
    *,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    workers: int = 0,
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


def _digest(network: FrozenFeatures) -> str:
    """Hash of the network's structure and of every value in it."""
    digest = hashlib.blake2b(f"{network.tag} {network.strides} {network}".encode(), digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
