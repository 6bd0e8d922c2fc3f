"""References chosen per test image: the training images with the most similar bags of visual words.

Borrowed by ResAD's authors from CPR (arXiv 2308.06748). Words are k-means centres of a category's training
features; an image is a grid of cells, each with a histogram of words.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from scipy.cluster.vq import kmeans2
from torch import Tensor

from adcommon.data.loading import AnomalyDataset, test_batches
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, DatasetNotFound, WrongCheckpoint
from adcommon.io.arrays import read_array
from adcommon.io.files import atomic_write
from adcommon.models.backbones import FeaturePyramid, normalisation
from adcommon.types.records import Split
from resad.network.residual import as_rows

STRIDE = 4
CLUSTERS = 12
GRID = 5
IGNORED_CELLS = 5
"""Of the 25 cells, those that differ most count for nothing: a defect may fill them."""
SEED = 0


def word_map(
    features: Float[Tensor, "channels height width"], centres: Float[Tensor, "words channels"]
) -> Int64[Tensor, "height width"]:
    """The word of every position: the centre with the largest cosine similarity."""
    rows = F.normalize(features.flatten(1).T, dim=1)
    return (rows @ F.normalize(centres, dim=1).T).argmax(dim=1).reshape(features.shape[1:])


def histograms(
    words: Int64[Tensor, "height width"], clusters: int = CLUSTERS, grid: int = GRID
) -> Float64[np.ndarray, "cells words"]:
    """Relative frequency of each word in each of grid x grid cells; what is left over is dropped."""
    height, width = (side // grid for side in words.shape)
    cells = words[: height * grid, : width * grid].reshape(grid, height, grid, width).permute(0, 2, 1, 3)
    counts = F.one_hot(cells.reshape(grid * grid, -1), clusters).sum(dim=1)
    return (counts.double() / (height * width)).numpy()


def distance(
    test: Float64[np.ndarray, "cells words"],
    train: Float64[np.ndarray, "*images cells words"],
    ignored: int = IGNORED_CELLS,
) -> Float64[np.ndarray, "*images"]:
    """Mean over the most similar cells of KL(train || test) in nats, for one or many training images.

    Infinite for a cell where the training image has a word that the test image lacks.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(train > 0, train * np.log(train / test), 0.0)
    cells = np.sort(terms.sum(axis=-1), axis=-1)
    return np.asarray(cells[..., : cells.shape[-1] - ignored].mean(axis=-1))


def nearest_images(
    test: Sequence[Float64[np.ndarray, "cells words"]],
    train: Sequence[Float64[np.ndarray, "cells words"]],
    count: int,
) -> Int64[np.ndarray, "test count"]:
    """For each test image the training images at the smallest distance, nearest first."""
    stacked = np.stack(train)
    return np.stack([np.argsort(distance(one, stacked), kind="stable")[:count] for one in test])


def align(
    dataset: str,
    splits: Mapping[str, Split],
    out: Path,
    *,
    count: int,
    backbone: str,
    weights: str,
    image_size: int,
    batch_size: int,
    device: torch.device,
) -> Path:
    """Write centres and choices of every category; the folder of the choices."""
    pyramid = FeaturePyramid(backbone, weights, strides=(STRIDE,)).to(device)
    mean, std = normalisation(backbone)
    preprocess = Preprocess(
        image_size=image_size, fit="short_side", interpolation="bicubic", mean=mean, std=std
    )
    folder = out / f"indices{count}" / dataset
    for category, split in splits.items():
        if count > len(split.train):
            raise BadValue(f"--count is {count}; '{category}' has {len(split.train)} normal training images")
        train, test = (
            _features(pyramid, AnomalyDataset(records, preprocess), batch_size, device)
            for records in (split.train, split.test)
        )
        centres, _ = kmeans2(as_rows(train).double().numpy(), CLUSTERS, minit="++", seed=SEED)
        words = torch.from_numpy(centres).float()
        tested, trained = ([histograms(word_map(maps, words)) for maps in images] for images in (test, train))
        chosen = nearest_images(tested, trained, count)
        centres_file = out / "centers" / dataset / f"{category}_centers.npy"
        atomic_write(centres_file, partial(np.save, arr=centres))
        atomic_write(folder / f"{category}_knn_indices.npy", partial(np.save, arr=chosen))
    return folder


def read_choice(folder: Path, category: str, split: Split, shots: int) -> Int64[np.ndarray, "images choices"]:
    """Positions in the training images, for every test image, from a file as `align` writes it.

    Raises:
        DatasetNotFound: no file for this category.
        WrongCheckpoint: a file that does not fit the dataset.
    """
    file = folder / f"{category}_knn_indices.npy"
    if not file.is_file():
        raise DatasetNotFound(f"no {file}; write it with resad-align")
    chosen = read_array(file, "iu")
    fits = chosen.ndim == 2 and chosen.size and len(chosen) == len(split.test) and chosen.shape[1] >= shots
    if not fits or chosen.min() < 0 or chosen.max() >= len(split.train):
        raise WrongCheckpoint(
            f"{file} has shape {chosen.shape}; expected ({len(split.test)}, at least {shots}) positions in "
            f"{len(split.train)} training images"
        )
    return chosen.astype(np.int64)


def _features(
    pyramid: FeaturePyramid, dataset: AnomalyDataset, batch_size: int, device: torch.device
) -> Float[Tensor, "images channels height width"]:
    batches = test_batches(dataset, batch_size, device=device)
    return torch.cat([pyramid(batch.images)[0].cpu() for batch in batches])
