"""Reference features as files, in the layout of the authors' code.

A folder of features has one sub-folder per category with `layer1.npy`, `layer2.npy`, ...: float32 rows, image
by image, then row, then column. Ours also have `references.json`, which says what they were made from.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from adcommon.data.preprocess import Preprocess
from adcommon.errors import DatasetNotFound, WrongCheckpoint
from adcommon.io.arrays import read_array
from adcommon.io.files import atomic_write, json_text, plain
from adcommon.io.schema import build, read_json
from resad.backbone import Grids
from resad.network.residual import ReferenceRows, References
from resad.recipes import Recipe

FACTS = "references.json"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What `references.json` says."""

    images: tuple[Path, ...]
    backbone: str | None = None
    preprocess: Preprocess | None = None


def feature_facts(recipe: Recipe, preprocess: Preprocess) -> dict[str, Any]:
    """What reference features depend on, besides the images."""
    return {"backbone": recipe.backbone, "preprocess": plain(preprocess)}


def write(folder: Path, references: References, facts: dict[str, Any]) -> None:
    """Write one category's features into its folder, with the facts that they depend on."""
    for number, level in enumerate(references.levels, start=1):
        atomic_write(folder / f"layer{number}.npy", partial(np.save, arr=level.rows.float().cpu().numpy()))
    known = {**facts, "images": [str(name) for name in references.names]}
    atomic_write(folder / FACTS, json_text(known))


def read(root: Path, category: str, expected: Grids, facts: dict[str, Any]) -> References:
    """Read one category's features, the authors' or ours.

    Args:
        expected: channels and sizes of the model's maps.
        facts: what features that this model can use were made with; compared where the files say it.

    Raises:
        DatasetNotFound: no such folder or file.
        WrongCheckpoint: features of another backbone or size, or damaged ones.
    """
    folder = root / category
    levels, counts = [], []
    for number, (channels, cells) in enumerate(zip(expected.channels, expected.cells, strict=True), start=1):
        file = folder / f"layer{number}.npy"
        rows = _load(file)
        if rows.ndim != 2 or rows.shape[1] != channels or len(rows) % cells or not len(rows):
            raise WrongCheckpoint(
                f"{file} has shape {rows.shape}; expected (images x {cells}, {channels}): were these "
                "features made with another backbone or image size? Write them anew with resad-extract"
            )
        levels.append(ReferenceRows.of(torch.from_numpy(rows)))
        counts.append(len(rows) // cells)
    if len(set(counts)) != 1:
        raise WrongCheckpoint(f"the levels in {folder} are of {counts} images; expected one number")
    return References(levels, counts[0], _names(folder, facts))


def _load(file: Path) -> Float[np.ndarray, "*shape"]:
    try:
        return np.array(read_array(file, "fiu"), dtype=np.float32)
    except FileNotFoundError:
        raise DatasetNotFound(
            f"no reference features at {file}\n"
            f"  Write them with: uv run resad-extract --save_dir {file.parents[1]}"
        ) from None


def _names(folder: Path, facts: dict[str, Any]) -> tuple[Path, ...]:
    """The images that our own files name, after a look at what else they say."""
    file = folder / FACTS
    if not file.exists():
        return ()
    known = build(Made, read_json(file, error=WrongCheckpoint), str(file), error=WrongCheckpoint)
    made, wanted = plain(known), plain(facts)
    if other := [f"{name} {made[name]}, not {wanted[name]}" for name in wanted if made[name] != wanted[name]]:
        raise WrongCheckpoint(f"the features in {folder} were made with {'; '.join(other)}")
    return known.images
