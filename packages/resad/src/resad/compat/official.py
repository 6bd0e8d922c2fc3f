"""Checkpoints in the layout of the authors' code: {"vq_ops": ..., "constraintor": ..., "estimators": [...]}.

The authors released no weights; files come from users' own runs of their code, or from here.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adcommon.data.messages import shorten
from adcommon.errors import WrongCheckpoint
from adcommon.io.files import atomic_write
from adcommon.io.schema import translated
from adcommon.models.checkpoint import load_strict
from adcommon.models.outline import build_to_fit
from adcommon.models.pickles import load_foreign, state_dict_in
from resad.model import ResAD
from resad.recipes import Recipe

logger = logging.getLogger(__name__)

PARTS = ("vq_ops", "constraintor", "estimators")
TRAINING_STATE = (
    "epoch",
    *(f"{what}{part}" for what in ("optimizer", "scheduler") for part in ("_vq", "0", "1")),
)
"""What `{setting}_latest.pth` of the extension holds besides the model; nothing here reads it."""


def load_official(model: ResAD, checkpoint: Mapping[str, Any], where: str) -> None:
    """Fill a model from a checkpoint in the authors' layout, which came from `where`.

    Raises:
        WrongCheckpoint: an entry is missing, unknown or of another shape; the text names every one.
    """
    if passed := [part for part in TRAINING_STATE if part in checkpoint]:
        logger.info("passing over %s of the checkpoint", ", ".join(passed))
    if unknown := [part for part in checkpoint if part not in PARTS + TRAINING_STATE]:
        raise WrongCheckpoint(
            f"{where} has unknown parts: {shorten(unknown)}; the authors' code writes {', '.join(PARTS)}"
        )
    load_strict(model, _state(checkpoint, where), where)


def _state(checkpoint: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The entries of all parts under our names."""
    flows = checkpoint.get("estimators", [])
    if not isinstance(flows, list | tuple):
        raise WrongCheckpoint(f"{where}: estimators is a {type(flows).__name__}; expected a list")
    parts = {part: checkpoint.get(part, {}) for part in ("vq_ops", "constraintor")}
    parts |= {f"estimators.{level}": flow for level, flow in enumerate(flows)}
    return {
        f"{part}.{name}": value
        for part, entries in parts.items()
        for name, value in state_dict_in(entries, f"{where}, {part},").items()
    }


def load_official_file(path: Path, recipe: Recipe, channels: list[int]) -> tuple[ResAD, Recipe]:
    """The model in a `.pth` file, of which no code runs, and the recipe with the file's own sizes.

    Args:
        recipe: what a file cannot say: backbone, image size, clamp, residual.
    """
    checkpoint = load_foreign(path)
    try:
        recipe = translated(recipe, lambda: sizes(checkpoint, channels), str(path))
    except WrongCheckpoint as error:
        raise WrongCheckpoint(
            f"{path} is not a checkpoint of ResAD's authors: it holds {shorten(checkpoint)}; expected "
            f"{', '.join(PARTS)} ({error})"
        ) from error
    state = _state(checkpoint, str(path))
    model = build_to_fit(
        lambda: ResAD(channels, recipe),
        lambda model: load_official(model, checkpoint, str(path)),
        state,
        str(path),
    )
    return model, recipe


def sizes(checkpoint: Mapping[str, Any], channels: list[int]) -> dict[str, Any]:
    """The recipe's fields that the shapes of a checkpoint tell."""
    flow = checkpoint["estimators"][0]
    blocks = {name.split(".")[1] for name in flow if name.startswith("module_list.")}
    inputs = flow["module_list.0.subnet.0.weight"].shape[1]
    condition = inputs - (channels[0] - channels[0] // 2)
    found: dict[str, Any] = {
        "coupling_layers": len(blocks),
        "num_embeddings": len(checkpoint["vq_ops"]["vq1.embedding.weight"]),
        "flow_arch": "conditional_flow_model" if condition else "flow_model",
    }
    return found | ({"pos_embed_dim": condition} if condition > 0 else {})


def to_official(model: ResAD) -> dict[str, Any]:
    """A copy of a model's state on the CPU, in the authors' layout."""

    def copy(module: torch.nn.Module) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}

    return {
        "vq_ops": copy(model.vq_ops),
        "constraintor": copy(model.constraintor),
        "estimators": [copy(flow) for flow in model.estimators],
    }


def write_official(path: Path, model: ResAD) -> None:
    """Write a `.pth` file that the authors' code reads."""
    content = to_official(model)
    atomic_write(path, lambda file: torch.save(content, file))
