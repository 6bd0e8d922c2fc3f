"""Frozen features of a list of images: computed at once where all fit into memory, else when asked for."""

import torch

from adcommon.data.loading import AnomalyDataset
from adcommon.models.feature_store import FeatureStore
from resad.backbone import Backbone, grids

ENCODE_BATCH = 16
"""Images per pass through the backbone."""
FLOAT_BYTES = 4


def feature_store(backbone: Backbone, dataset: AnomalyDataset, memory_bytes: int) -> FeatureStore:
    """The features of a dataset, filled if `memory_bytes` suffice for all of them.

    The last digits of a convolution may depend on the other images of its batch, so a resumed training must
    compute as an unbroken one: all images in the dataset's order, or, on a CPU, each image alone.
    """
    sizes = grids(backbone, dataset.preprocess)
    values = sum(channels * cells for channels, cells in zip(sizes.channels, sizes.cells, strict=True))
    fits = values * FLOAT_BYTES * len(dataset) <= memory_bytes
    on_cpu = next(backbone.parameters()).device.type == "cpu"
    store = FeatureStore(
        backbone,
        dataset,
        ENCODE_BATCH if fits or not on_cpu else 1,
        None,
        dtype=torch.float32,
        memory_bytes=memory_bytes,
    )
    if fits:
        store.fill()
    return store
