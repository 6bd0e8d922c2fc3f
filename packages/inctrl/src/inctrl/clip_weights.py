"""Where CLIP's weights come from: a file, $AD_WEIGHTS, this machine's caches, else the network.

open_clip 3.3 lists one repository of the hub for two sets of weights of ViT-B-16-plus-240 and prefers the
hub, so that asking it for `laion400m_e32` silently gives epoch 31. Here the published *file* of a tag is
used, and the digits in its name are compared with its SHA-256.
"""

import logging
import os
from http.client import HTTPException
from pathlib import Path

import huggingface_hub.constants
import torch
from open_clip import pretrained
from torch import Tensor

from adcommon.errors import ChecksumMismatch, WeightsNotFound, WrongCheckpoint, unknown_name
from adcommon.weights import is_random, read_state, verify_file

logger = logging.getLogger(__name__)

_CACHES = ("~/.cache/clip", "~/.cache/huggingface/clip")
"""Where open_clip leaves the files it fetches."""


def resolve_clip(model: str, tag: str, weights: str = "pretrained") -> dict[str, Tensor] | None:
    """The entries of a CLIP under open_clip's names, or None if they are to be drawn at random.

    Args:
        model: open_clip's name.
        tag: of its weights, `laion400m_e32`.
        weights: "pretrained", "random", or the path of a file.

    Raises:
        WeightsNotFound: says which file to put where.
        ChecksumMismatch: another file than the one it is called after.
    """
    if is_random(weights):
        logger.warning("RANDOM CLIP WEIGHTS, for trials only: scores mean nothing backbone=%s", model)
        return None
    path = _published(model, tag) if weights == "pretrained" else Path(weights).expanduser()
    if not path.is_file():
        raise WeightsNotFound(
            f"no weights file {path} for '{model}'; expected 'pretrained', 'random', or the path of a file"
        )
    verify_file(path)
    logger.info("CLIP weights backbone=%s file=%s", model, path)
    try:
        state = read_state(path)
    except WrongCheckpoint as error:
        raise WrongCheckpoint(
            f"{error}\n  Expected the tensors of a CLIP under open_clip's names."
        ) from error
    return {name.removeprefix("module."): tensor.float() for name, tensor in state.items()}


def _published(model: str, tag: str) -> Path:
    """The file of a tag on this machine, fetched if it is not there."""
    config = pretrained.get_pretrained_cfg(model, tag)
    if not config:
        known = pretrained.list_pretrained_tags_by_model(model)
        if not known:
            raise WeightsNotFound(
                f"'{model}' has no published weights; pass a file with --weights FILE, or --weights random"
            )
        raise unknown_name(f"weights of '{model}'", tag, known)
    url = config.get("url", "")
    file = url.rsplit("/", 1)[-1] or f"{model}-{tag}.safetensors"
    given = os.environ.get("AD_WEIGHTS")
    folders = [given] if given else []
    folders += [*_CACHES, str(Path(torch.hub.get_dir(), "checkpoints"))]
    for folder in folders:
        if (path := Path(folder).expanduser() / file).is_file():
            return path
    reason = "HF_HUB_OFFLINE is set"
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        try:
            found = pretrained.download_pretrained(config, prefer_hf_hub=False)
            if found:
                return Path(found)
            reason = "no address is known"
        except (OSError, HTTPException, RuntimeError) as error:
            if "SHA256" in str(error):
                raise ChecksumMismatch(f"{url} sent another file than it should: {error}") from error
            reason = str(error)
    place = given or folders[-1]
    raise WeightsNotFound(
        f"the weights '{tag}' of '{model}' are not on this machine and were not downloaded ({reason}).\n"
        f"  File: {file}\n  URL:  {url or config.get('hf_hub')}\n"
        f"  Put it into {place} (the folder named by AD_WEIGHTS, if that is set), or pass it by "
        "--weights FILE; a timm backbone such as --backbone tf_efficientnet_lite0.in1k needs no CLIP."
    )
