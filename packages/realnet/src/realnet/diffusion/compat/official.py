"""OpenAI's and the authors' checkpoints of the two networks: found, safely read, written.

OpenAI's files are state dicts; the authors' are dicts with "epoch", "arch", "state_dict" (every name begins
with "module.") and "loss" or "acc". The names within are those of our modules.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adcommon.errors import WeightsNotFound, WrongCheckpoint
from adcommon.io.files import atomic_write, plain
from adcommon.models.checkpoint import load_strict
from adcommon.models.pickles import EASYDICT_AND_SCALARS, load_foreign, state_dict_in
from realnet.diffusion.base_recipe import TrainingRecipe
from realnet.diffusion.network.classifier import Classifier
from realnet.diffusion.network.unet import UNet
from realnet.diffusion.recipes import DiffusionRecipe

logger = logging.getLogger(__name__)

URL = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
"""Where OpenAI publishes its networks."""

_MODULE = "module."
_HEADS: dict[type[nn.Module], tuple[str, ...]] = {
    UNet: ("label_emb.weight",),
    Classifier: ("out.2.c_proj.weight", "out.2.c_proj.bias"),
}
"""The entries that depend on the number of classes: alone these may keep their random start."""


def find_weights(weights: str, name: str) -> Path:
    """The file that a training starts from.

    Args:
        weights: "pretrained" for OpenAI's file of this name, from $AD_WEIGHTS or from the folder `pretrain`
            that the authors' scripts read; else a path.

    Raises:
        WeightsNotFound: says what to download and where to put it.
    """
    given = Path(weights).expanduser()
    if given.is_file():
        return given
    if weights != "pretrained" and given.name != name:
        raise WeightsNotFound(f"no weights file {given}; expected 'pretrained', 'random', or a checkpoint")
    folders = [Path("pretrain")]
    if own := os.environ.get("AD_WEIGHTS"):
        folders.insert(0, Path(own).expanduser())
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeightsNotFound(
        f"the pretrained weights {name} are not on this machine: not in {' or '.join(map(str, folders))}.\n"
        f"  URL:  {URL}/{name}\n"
        f"  Put the file into {folders[0].resolve()} (or set AD_WEIGHTS to its folder), or pass it by "
        "--weights FILE.\n"
        "  To train from scratch, use a small network: --recipe quick64, small64 or small128"
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """The entries of a checkpoint of OpenAI or of the authors, without "module.".

    Raises:
        WrongCheckpoint: not one, damaged, or with objects that only code of the file could build.
    """
    content = load_foreign(path, EASYDICT_AND_SCALARS)
    state = state_dict_in(content.get("state_dict", content), str(path))
    return {name.removeprefix(_MODULE): value for name, value in state.items()}


def fill(network: UNet | Classifier, state: Mapping[str, Tensor], *, where: str, new_head: bool) -> list[str]:
    """Copy a checkpoint's entries into a network; those that kept their random start, which the log names.

    Args:
        where: the entries came from.
        new_head: what depends on the number of classes may differ and keeps its random start, as when a
            network for ImageNet's 1000 classes begins to learn a few others.

    Raises:
        WrongCheckpoint: names every other entry that is missing, unknown or of another shape.
    """
    own = network.state_dict()
    heads = _HEADS[type(network)] if new_head else ()
    left = [name for name in heads if name not in state or state[name].shape != own[name].shape]
    load_strict(network, {**state, **{name: own[name] for name in left}}, where)
    logger.info("weights %d entries from %s", len(own) - len(left), where)
    for name in left:
        theirs = tuple(state[name].shape) if name in state else "missing"
        logger.warning("left at its random start: %s is %s, not %s", name, theirs, tuple(own[name].shape))
    return left


def classes_in(state: Mapping[str, Tensor], kind: type[nn.Module], *, where: str) -> int:
    """The number of classes that the network in a checkpoint has.

    Raises:
        WrongCheckpoint: it is no network of this kind.
    """
    head = _HEADS[kind][0]
    if head not in state or not state[head].ndim:
        raise WrongCheckpoint(f"{where} is no {kind.__name__}: it has no entry {head}")
    return state[head].shape[0]


def save_checkpoint(path: Path, network: nn.Module, recipe: TrainingRecipe, state: Mapping[str, Any]) -> None:
    """Write a network as the authors' code does, except that "arch" holds our recipe, which it never reads.

    Args:
        state: epochs done, and what was measured.
    """
    is_unet = isinstance(recipe, DiffusionRecipe)
    content = {
        "epoch": state["epoch"],
        "arch": [{"name": "unet" if is_unet else "classifier", "kwargs": plain(recipe)}],
        "state_dict": {_MODULE + name: value.cpu().clone() for name, value in network.state_dict().items()},
        **({"loss": state["rebuild_mse"]} if is_unet else {"acc": state["epoch_accuracy"]}),
    }
    atomic_write(path, lambda file: torch.save(content, file))
