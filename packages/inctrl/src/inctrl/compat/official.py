"""The authors' checkpoints: reading one without running code from it, and writing one.

`checkpoint_N.pyth` is a state dict of 345 entries: CLIP under open_clip's names but for `logit_scale`, and
`adapter`, `diff_head`, `diff_head_ref`. It may also be wrapped as {"model_state": ..., "epoch": ...}.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from torch import Tensor

from adcommon.data.messages import shorten
from adcommon.errors import WrongCheckpoint
from adcommon.io.files import atomic_write
from adcommon.models.pickles import load_foreign, state_dict_in
from inctrl.model import InCTRL

logger = logging.getLogger(__name__)

TRAINED = ("adapter.", "diff_head.", "diff_head_ref.")
_CLIP = (
    *("visual.", "transformer.", "token_embedding.", "ln_final."),
    *("positional_embedding", "text_projection"),
)
_UNREAD = ("logit_scale", "logit_bias")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file of the authors holds."""

    trained: dict[str, Tensor]
    """Adapter and heads, under the names of `inctrl.model.InCTRL`."""
    clip: dict[str, Tensor]
    """Both towers, under open_clip's names."""


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of the authors; entries that no part has a place for are reported.

    Raises:
        WrongCheckpoint: not one, damaged, or with objects that only code of the file could build.
    """
    content = load_foreign(path)
    state = state_dict_in(content.get("model_state", content), str(path))
    state = {name.removeprefix("module."): value for name, value in state.items()}
    trained = {name: value for name, value in state.items() if name.startswith(TRAINED)}
    clip = {name: value.float() for name, value in state.items() if name.startswith(_CLIP)}
    if not trained or not clip:
        missing = "adapter and heads" if not trained else "CLIP"
        raise WrongCheckpoint(
            f"{path} is no checkpoint of InCTRL's authors: it lacks {missing}; expected a file such as "
            "checkpoint_6.pyth, with both"
        )
    unknown = [name for name in state if name not in trained and name not in clip and name not in _UNREAD]
    if unknown:
        logger.warning("%s: entries without a use: %s", path, shorten(unknown))
    return Checkpoint(trained, clip)


def save_checkpoint(path: Path, model: InCTRL, clip: open_clip.CLIP) -> None:
    """Write a model as the authors' code does, CLIP included: 835 MB for ViT-B-16-plus-240."""
    towers = {name: value for name, value in clip.state_dict().items() if name not in _UNREAD}
    content = {name: value.detach().cpu().clone() for name, value in {**towers, **model.state_dict()}.items()}
    atomic_write(path, lambda file: torch.save(content, file))
