"""Frozen features of a dataset, each image's computed once; for methods that do not augment.

A frozen backbone maps an unchanging image to unchanging features, so training on features needs
neither the images nor the backbone after the first pass.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from adcommon.backbones import FeaturePyramid
from adcommon.datasets.loading import AnomalyDataset
from adcommon.disk_cache import DiskCache
from adcommon.errors import BadValue

logger = logging.getLogger(__name__)

DEFAULT_MEMORY_BYTES = 2 * 2**30
"""Features kept in memory: 10,000 images of 272 channels on 14x14 cells in float32."""

_DTYPES = {torch.float32: np.dtype(np.float32), torch.float16: np.dtype(np.float16)}


class FeatureStore:
    """Feature maps by the image's position in a dataset: from memory, else the cache, else computed."""

    def __init__(
        self,
        pyramid: FeaturePyramid,
        dataset: AnomalyDataset,
        batch_size: int,
        cache: DiskCache | None,
        *,
        dtype: torch.dtype,
        memory_bytes: int,
    ) -> None:
        """As `cached_features`, which also fills it."""
        if dtype not in _DTYPES:
            raise BadValue(f"features are to be stored as {dtype}; expected torch.float32 or torch.float16")
        if batch_size < 1:
            raise BadValue(f"batch_size is {batch_size}; expected at least 1")
        self.pyramid = pyramid
        self.dataset = dataset
        self.batch_size = batch_size
        self.cache = cache
        self._dtype = _DTYPES[dtype]
        self._memory_bytes = memory_bytes
        self._kept: dict[int, list[np.ndarray]] = {}
        self._kept_bytes = 0
        preprocess = dataset.preprocess
        self._recipe = f"{_digest(pyramid)} {self._dtype} {preprocess.mean} {preprocess.std}"

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
        maps.update(self._compute(list(missing)))
        by_level = zip(*(maps[index] for index in wanted), strict=True)
        return [torch.from_numpy(np.stack(level).astype(np.float32, copy=False)) for level in by_level]

    def fill(self) -> None:
        """Compute what neither memory nor the cache holds."""
        missing = [index for index in range(len(self)) if not self._is_stored(index)]
        computed = sum(1 for _ in self._compute(missing))
        logger.info(
            "frozen features backbone=%s images=%d computed=%d", self.pyramid.tag, len(self), computed
        )

    def _is_stored(self, index: int) -> bool:
        if index in self._kept:
            return True
        return self.cache is not None and all(key in self.cache for key in self._keys(index))

    def _stored(self, index: int) -> list[np.ndarray] | None:
        if index in self._kept or self.cache is None:
            return self._kept.get(index)
        levels = [array for key in self._keys(index) if (array := self.cache.get(key)) is not None]
        if len(levels) < len(self.pyramid.strides):
            return None
        self._keep(index, levels)
        return levels

    def _compute(self, indices: Sequence[int]) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The maps of these images as they are stored, in batches."""
        device = next(self.pyramid.parameters()).device
        for first in range(0, len(indices), self.batch_size):
            some = indices[first : first + self.batch_size]
            with torch.inference_mode():
                maps = self.pyramid(self.dataset.batch(some).images.to(device))
            arrays = [level.float().contiguous().cpu().numpy().astype(self._dtype) for level in maps]
            for row, index in enumerate(some):
                levels = [array[row].copy() for array in arrays]
                self._keep(index, levels)
                if self.cache is not None:
                    for key, level in zip(self._keys(index), levels, strict=True):
                        self.cache.put(key, level)
                yield index, levels

    def _keep(self, index: int, levels: list[np.ndarray]) -> None:
        size = sum(level.nbytes for level in levels)
        if self._kept_bytes + size <= self._memory_bytes:
            self._kept[index] = levels
            self._kept_bytes += size

    def _keys(self, index: int) -> list[str]:
        """One key for each level."""
        content = self.dataset.content_key(index)
        return [f"{self._recipe} {content} stride {stride}" for stride in self.pyramid.strides]


def cached_features(
    pyramid: FeaturePyramid,
    dataset: AnomalyDataset,
    batch_size: int,
    cache: DiskCache | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> FeatureStore:
    """The features of every image of a dataset, computed now where they are not yet stored.

    Args:
        pyramid: computes on the device of its parameters.
        dataset: whose images are the same in every epoch.
        batch_size: images per pass through the backbone.
        cache: keeps features between runs, under a key made of the images' content, the preprocessing,
            the backbone and its weights.
        dtype: how features are stored; float16 halves the room and keeps 3 digits.
        memory_bytes: limit of what is kept in memory. What fits neither there nor in the cache is
            computed again whenever it is asked for.
    """
    store = FeatureStore(pyramid, dataset, batch_size, cache, dtype=dtype, memory_bytes=memory_bytes)
    store.fill()
    return store


def _digest(pyramid: FeaturePyramid) -> str:
    """Hash of the trunk's structure and of every value in it."""
    digest = hashlib.blake2b(f"{pyramid.tag} {pyramid.strides} {pyramid.trunk}".encode(), digest_size=16)
    for name, tensor in pyramid.trunk.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
