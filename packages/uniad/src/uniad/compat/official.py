"""The authors' checkpoints: reading one without running code from it, its names, and writing one.

A checkpoint is a dict: "epoch", "arch" (a list of easydict.EasyDict: backbone, neck, reconstruction),
"state_dict" (every name begins with "module."), "best_metric" (a NumPy scalar) and "optimizer". Published
files are in the container of PyTorch 1.5, later ones in today's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adcommon.data.messages import shorten
from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.io.files import atomic_write, plain
from adcommon.io.schema import convert, shown, translated
from adcommon.models.backbones import fill_trunk
from adcommon.models.checkpoint import load_strict
from adcommon.models.efficientnet import from_efficientnet_pytorch, to_efficientnet_pytorch
from adcommon.models.outline import build_to_fit
from adcommon.models.pickles import EASYDICT_AND_SCALARS, load_foreign, number_in, state_dict_in
from adcommon.types.values import Count
from uniad.compat.arch import BLOCKS, arch_of, name_of, network_values
from uniad.model import UniAD, build
from uniad.recipes import CIFAR10, MVTEC, Recipe

_MODULE, _BACKBONE, _RECONSTRUCTION = "module.", "backbone.", "reconstruction."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file of the authors holds, under their names but for "module."."""

    path: Path
    epoch: int
    """Epochs done."""
    best_metric: float
    """Best key metric so far, on the test set."""
    arch: list[dict[str, Any]]
    """Name, type and options of backbone, neck and reconstruction."""
    state: dict[str, Tensor]
    optimizer: dict[str, Any]

    @property
    def recipe(self) -> Recipe:
        """The experiment that the file is of; what it does not say is the paper's."""
        where = f"{self.path}, arch"
        recipe = translated(MVTEC, lambda: network_values(self.arch, where=where), where)
        if len(recipe.strides) == len(CIFAR10.strides):
            return translated(CIFAR10, lambda: network_values(self.arch, where=where), where)
        return recipe

    def model(self) -> UniAD:
        """The trained network, on the CPU."""
        recipe, where = self.recipe, str(self.path)
        return build_to_fit(
            lambda: build(recipe, weights=None),
            lambda model: fill(model, self.state, recipe.backbone, where=where),
            self.state,
            where,
        )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of the authors.

    Raises:
        WrongCheckpoint: not one, damaged, or with objects that only code of the file could build.
    """
    content = load_foreign(path, EASYDICT_AND_SCALARS)
    needed = ("epoch", "arch", "state_dict", "best_metric", "optimizer")
    if missing := [name for name in needed if name not in content]:
        raise WrongCheckpoint(
            f"{path} is no checkpoint of UniAD's authors: it lacks {', '.join(missing)}; expected "
            "a file such as ckpt.pth.tar with epoch, arch, state_dict, best_metric and optimizer"
        )
    arch, optimizer = content["arch"], content["optimizer"]
    if not isinstance(arch, list | tuple) or not all(isinstance(part, Mapping) for part in arch):
        raise WrongCheckpoint(f"{path}: arch is {shown(arch)}; expected backbone, neck and reconstruction")
    state = state_dict_in(content["state_dict"], str(path))
    return Checkpoint(
        path,
        convert(content["epoch"], Count, f"{path}: epoch", error=WrongCheckpoint),
        number_in(content["best_metric"], f"{path}: best_metric"),
        convert(plain(arch), list[dict[str, Any]], f"{path}: arch", error=WrongCheckpoint),
        {name.removeprefix(_MODULE): tensor for name, tensor in state.items()},
        convert(optimizer, dict[str, Any], f"{path}: optimizer", error=WrongCheckpoint),
    )


def fill(model: UniAD, state: Mapping[str, Tensor], tag: str, *, where: str) -> None:
    """Fill a model from entries under the authors' names, without "module.".

    Raises:
        WrongCheckpoint: names every entry that is missing, unknown or of another shape.
    """
    unknown = [name for name in state if not name.startswith((_BACKBONE, _RECONSTRUCTION))]
    if unknown:
        raise WrongCheckpoint(f"{where} has entries that belong to no part: {shorten(unknown)}")
    backbone = below(state, _BACKBONE)
    fill_trunk(model.backbone.pyramid.trunk, from_efficientnet_pytorch(backbone, tag), tag)
    load_strict(model.reconstruction, below(state, _RECONSTRUCTION), where=where)


def to_official(model: UniAD, rest: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """A model's entries under the authors' names, "module." included; copies on the CPU.

    Args:
        rest: entries, without "module.", that the model has no place for: the backbone's later stages and
            classifier, as the file had them that it was read from.

    Raises:
        BadValue: the model whitens its features.
    """
    if model.whitening is not None:
        raise BadValue(
            "the authors' code has no place for whitened features; export models of --no-whiten to it"
        )
    trunk = dict(model.backbone.pyramid.trunk.state_dict())
    tag = model.backbone.tag
    named = to_efficientnet_pytorch(trunk, tag) if name_of(tag) in BLOCKS else trunk
    own = {_BACKBONE + name: tensor for name, tensor in named.items()}
    own |= {_RECONSTRUCTION + name: tensor for name, tensor in model.reconstruction.state_dict().items()}
    return {
        _MODULE + name: tensor.detach().cpu().clone() for name, tensor in ({**(rest or {}), **own}).items()
    }


def save_checkpoint(
    path: Path,
    model: UniAD,
    recipe: Recipe,
    *,
    epoch: int = 0,
    best_metric: float = 0.0,
    optimizer: Mapping[str, Any] | None = None,
    rest: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model as the authors' code does, except that "arch" holds plain dicts, which it never reads.

    Args:
        epoch: epochs done.
        best_metric: best key metric so far.
        optimizer: the optimiser's state dict.
        rest: as in `to_official`.
    """
    groups = [{**group, "params": []} for group in (optimizer or {}).get("param_groups", [])]
    content = {
        "epoch": epoch,
        "arch": arch_of(recipe, model.backbone.pyramid.channels),
        "state_dict": to_official(model, rest),
        "best_metric": best_metric,
        # The neck's group, which is empty, and the reconstruction's.
        "optimizer": {
            "state": dict((optimizer or {}).get("state", {})),
            "param_groups": groups + list((optimizer or {}).get("param_groups", [])),
        },
    }
    atomic_write(path, lambda file: torch.save(content, file))


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
