"""The authors' checkpoints: reading one without running code from it, its names, and writing one.

A checkpoint is a dict: "epoch", "arch" (a list of easydict.EasyDict), "state_dict" and "best_metric". The
backbone's entries may be missing from it, since they equal the pretrained weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adcommon.data.messages import shorten
from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.io.files import atomic_write
from adcommon.io.schema import convert, translated
from adcommon.models.backbones import fill_trunk
from adcommon.models.checkpoint import load_strict
from adcommon.models.outline import build_to_fit
from adcommon.models.pickles import EASYDICT_AND_SCALARS, load_foreign, number_in, state_dict_in
from adcommon.types.values import Count
from realnet.compat.arch import TAGS, network_values
from realnet.model import RealNet
from realnet.network.structure import parse_structure
from realnet.recipes import MVTEC, Recipe

_MODULE, _BACKBONE = "module.", "backbone.feature_extractor."
_PARTS = ("afs", "recon", "rrs")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file of the authors holds, under their names but for "module."."""

    path: Path
    epoch: int
    """Epochs done."""
    best_metric: float
    """Best mean of image and pixel AUROC, on the test set."""
    arch: list[Any]
    """Options of the parts."""
    state: dict[str, Tensor]

    @property
    def recipe(self) -> Recipe:
        """The experiment that the file is of; what it does not say is the paper's."""
        where = f"{self.path}, arch"
        return translated(MVTEC, lambda: network_values(self.arch, where=where), where)

    def model(self, weights: str | None = None) -> RealNet:
        """The trained network, on the CPU.

        Args:
            weights: of the backbone where the file has none; None: the pretrained ones.
        """
        recipe, where = self.recipe, str(self.path)
        complete = any(name.startswith(_BACKBONE) for name in self.state)
        return build_to_fit(
            lambda: RealNet(recipe, weights=None if complete else weights or "pretrained"),
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
    needed = ("epoch", "arch", "state_dict", "best_metric")
    if missing := [name for name in needed if name not in content]:
        raise WrongCheckpoint(
            f"{path} is no checkpoint of RealNet's authors: it lacks {', '.join(missing)}; expected a file "
            "such as ckpt_best.pth.tar with epoch, arch, state_dict and best_metric"
        )
    state = state_dict_in(content["state_dict"], str(path))
    arch = content["arch"]
    return Checkpoint(
        path,
        convert(content["epoch"], Count, f"{path}: epoch", error=WrongCheckpoint),
        number_in(content["best_metric"], f"{path}: best_metric"),
        list(arch) if isinstance(arch, list | tuple) else [arch],
        {name.removeprefix(_MODULE): tensor for name, tensor in state.items()},
    )


def fill(model: RealNet, state: Mapping[str, Tensor], tag: str, *, where: str) -> None:
    """Fill a model from entries under the authors' names; the backbone's may be missing, all together.

    Raises:
        WrongCheckpoint: names every entry that is missing, unknown or of another shape.
    """
    known = (_BACKBONE, *(f"{part}." for part in _PARTS))
    if unknown := [name for name in state if not name.startswith(known)]:
        raise WrongCheckpoint(f"{where} has entries that belong to no part: {shorten(unknown)}")
    backbone = {name: value for name, value in state.items() if name.startswith(_BACKBONE)}
    if backbone:
        trunk = {name.removeprefix(_BACKBONE): value for name, value in backbone.items()}
        fill_trunk(model.backbone.trunk, trunk, tag)
    own = torch.nn.ModuleDict({part: getattr(model, part) for part in _PARTS})
    load_strict(own, {name: value for name, value in state.items() if name not in backbone}, where)


def to_official(model: RealNet) -> dict[str, Tensor]:
    """A model's own entries under the authors' names."""
    return {name.replace("backbone.trunk.", _BACKBONE): value for name, value in model.state_dict().items()}


def save_checkpoint(
    path: Path, model: RealNet, recipe: Recipe, epoch: int = 0, best_metric: float = 0.0
) -> None:
    """Write a model as the authors' code does, complete with its backbone; see `Checkpoint`."""
    content = {
        "epoch": epoch,
        "arch": arch_of(recipe),
        "state_dict": {name: value.detach().cpu().clone() for name, value in to_official(model).items()},
        "best_metric": best_metric,
    }
    atomic_write(path, lambda file: torch.save(content, file))


def arch_of(recipe: Recipe) -> list[dict[str, Any]]:
    """A recipe's network as the authors describe it: backbone, afs, recon and rrs, each with its options.

    Raises:
        BadValue: their code has no such backbone or network.
    """
    name = recipe.backbone.partition(".")[0]
    if name not in TAGS or recipe.reconstruction != "unet":
        raise BadValue(
            f"the authors' layout has no place for {recipe.backbone} with networks of kind "
            f"{recipe.reconstruction}; expected one of {', '.join(TAGS)} with unet"
        )
    structure = [
        {
            "name": block.name,
            "layers": [{"idx": layer, "planes": planes} for layer, planes in block.layers],
            "stride": block.stride,
        }
        for block in parse_structure(recipe.structure)
    ]
    recon = {
        "num_res_blocks": recipe.res_blocks,
        "hide_channels_ratio": recipe.hidden_ratio,
        "channel_mult": list(recipe.channel_mult),
        "attention_mult": list(recipe.attention_mult),
    }
    modes, counts = zip(*recipe.modes(), strict=True)
    rrs = {
        "modes": list(modes),
        "mode_numbers": list(counts),
        "num_residual_layers": recipe.rrs_layers,
        "stop_grad": recipe.stop_grad,
    }
    return [
        {"name": "backbone", "type": name, "frozen": True},
        {"name": "afs", "frozen": True, "kwargs": {"init_bsn": recipe.afs_batches, "structure": structure}},
        {"name": "recon", "kwargs": recon},
        {"name": "rrs", "kwargs": rrs},
    ]
