"""The k normal images of a category: drawn, or read from a few-shot file, and what the tower says of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.data.lists.fewshot import draw_references, refuse_too_few
from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit
from adcommon.types.records import Record, Split
from inctrl.compat.fewshot_files import read_few_shot_file
from inctrl.network.features import Features, Tower, as_features

ENCODE_BATCH = 8
"""Reference images per pass through the tower."""


@dataclass(frozen=True, slots=True)
class References:
    """What a category's queries are compared with."""

    name: str
    """ "seed 0", or the folder of the files they are from; the same for all categories of a draw."""
    images: Float[Tensor, "shots 3 height width"]
    """Preprocessed."""
    paths: tuple[Path, ...] = ()
    """Empty where a file does not say."""
    tiles: int = 1
    """Into which each is cut; they lie beside each other in `images`."""


def drawn(source: Sequence[Record] | Path, shots: int, seed: int, preprocess: Preprocess) -> References:
    """Draw references among normal records, or among the images of a folder; see `draw_references`."""
    paths = draw_references(source, shots, seed=seed)
    return References(f"seed {seed}", load_images(paths, preprocess), tuple(paths))


def refuse_missing(targets: Iterable[Split], shots: int, few_shot_dir: Path | None, size: int) -> None:
    """Refuse categories without enough references, before any work.

    Args:
        few_shot_dir: the folder of their files; None: they are drawn among training images.
    """
    for target in targets:
        if few_shot_dir is not None:
            from_file(few_shot_dir, target.category, size, shots)
        elif not target.train:
            raise EmptySplit(
                f"no normal images of '{target.category}' to draw references from besides those that test: "
                "pass --normal-json-path LIST, or --few-shot-dir DIR"
            )
        else:
            refuse_too_few([target], shots)


def from_images(paths: Sequence[Path], preprocess: Preprocess) -> References:
    """These images.

    Raises:
        BadValue: they are cut, and not all into as many tiles.
    """
    tiles = preprocess.tiles_of_all(paths)
    return References("given images", load_images(paths, preprocess), tuple(paths), tiles)


def from_file(folder: Path, category: str, size: int, shots: int | None = None) -> References:
    """The authors' few-shot file of a category, or its first images.

    Raises:
        DatasetNotFound: there is no such file; names those that are there.
        BadValue: it holds fewer than `shots` images.
    """
    path = folder / f"{category}.pt"
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in folder.glob("*.pt"))) or "nothing of the kind"
        raise DatasetNotFound(
            f"no few-shot file {path}; in {folder} there is {there}\n"
            f"  Make it with: uv run inctrl-few-shot FOLDER_OF_NORMAL_IMAGES --category {category} "
            f"--out {folder}, or leave --few-shot-dir out to draw references with a seed."
        )
    images = read_few_shot_file(path, size)
    if shots is not None and not 1 <= shots <= len(images):
        raise BadValue(
            f"--shots is {shots}; {path} holds {len(images)} images: expected at most --shots {len(images)}"
        )
    return References(str(folder), images[:shots])


def load_images(paths: Sequence[Path], preprocess: Preprocess) -> Float[Tensor, "images 3 height width"]:
    """Decode and preprocess image files, or all tiles of them."""
    return normalise(np.concatenate([preprocess.read(path)[0] for path in paths]), preprocess)


@torch.inference_mode()
def encode_references(tower: Tower, images: Float[Tensor, "shots 3 height width"]) -> Features:
    """What the tower says of them, on its device."""
    device = next(tower.parameters()).device
    parts = [as_features(tower(part.to(device))) for part in images.split(ENCODE_BATCH)]
    levels = zip(*(part.levels for part in parts), strict=True)
    return Features(torch.cat([part.tokens for part in parts]), [torch.cat(level) for level in levels])
