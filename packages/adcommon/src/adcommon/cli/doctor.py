"""`ad doctor`: what this machine has, in one page to paste into an issue, and what is likely to go wrong."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from adcommon.io.cache import cache_folder
from adcommon.io.places import default_root
from adcommon.io.versions import library_versions, own_commit
from adcommon.methods import installed

GIGABYTE = 2**30
LEAST_FREE = 5
"""Gigabytes: features of a few thousand images, and a run."""
LEAST_SHARED = 1
"""Gigabytes of /dev/shm: where loader processes hand over batches."""
SHOWN = ("AD_", "CUDA_VISIBLE_DEVICES", "HF_H", "MKL_NUM_THREADS", "OMP_", "TORCH_HOME")
"""Beginnings of the environment variables that change what happens."""
Facts = Iterator[tuple[str, str]]


def doctor() -> None:
    """Print what this machine has: versions, devices, folders, weights; and what is likely to go wrong.

    Nothing is changed, sent or downloaded. Your home folder is shown as ~, and no secret's value is shown.
    """
    problems: list[str] = []
    sections = {
        "adcommon": _package(),
        "libraries": _libraries(problems),
        "devices": _devices(problems),
        "folders": _folders(problems),
        "weights": _weights(problems),
        "environment": _environment(),
    }
    for title, facts in sections.items():
        print(f"## {title}")
        for name, value in facts:
            print(f"{name:<27} {_without_home(value)}")
        print()
    print("## likely problems")
    print("\n".join(f"- {_without_home(problem)}" for problem in problems) or "none found")


def _package() -> Facts:
    yield "adcommon", version("adcommon")
    yield "commit", own_commit() or "not in a git repository"
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "system", f"{platform.platform()}, {platform.machine()}"
    for name, point in installed().items():
        yield f"method {name}", point.dist.version if point.dist is not None else "unknown"


def _libraries(problems: list[str]) -> Facts:
    for name, number in library_versions().items():
        if name not in ("python", "adcommon"):
            yield name, number
    extras: dict[str, list[str]] = {}
    for line in requires("adcommon") or ():
        if found := re.match(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", line):
            extras.setdefault(found[2], []).append(found[1])
    for extra, names in extras.items():
        missing = [name for name in names if not _is_installed(name)]
        yield f"adcommon[{extra}]", f"without {', '.join(missing)}" if missing else "installed"
    both = [
        name for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml") if _is_installed(name)
    ]
    if len(both) > 1:
        problems.append(f"{' and '.join(both)} overwrite each other's files: uninstall all, install one")


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _devices(problems: list[str]) -> Facts:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "processor cores", f"{os.cpu_count()}, {usable} of them usable"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield "memory", f"{memory / GIGABYTE:.1f} GB"
    card = shutil.which("nvidia-smi") is not None
    if find_spec("torch") is None:
        yield "torch", "not installed: exported models alone can be run"
        return
    import torch

    yield "torch threads", str(torch.get_num_threads())
    yield "torch built for CUDA", str(torch.version.cuda or "no")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        has = f"{about.total_memory / GIGABYTE:.0f} GB, compute capability {about.major}.{about.minor}"
        yield f"GPU {number}", f"{about.name}, {has}"
    if not torch.cuda.is_available():
        yield "CUDA", "no device"
        if card:
            remedy = "check its driver" if torch.version.cuda else "install torch's CUDA build (pytorch.org)"
            problems.append(f"nvidia-smi is here and torch finds no GPU: {remedy}")
    yield "MPS", "yes" if torch.backends.mps.is_available() else "no"


def _folders(problems: list[str]) -> Facts:
    own = {"runs, below": (Path(), "--out"), "cache": (cache_folder(), "AD_CACHE")}
    for name, (folder, remedy) in {**own, "datasets": (default_root(), "")}.items():
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists()).absolute()
        free = shutil.disk_usage(there).free / GIGABYTE
        yield name, f"{folder.absolute()} ({free:.0f} GB free{'' if folder.exists() else ', not there yet'})"
        if remedy and free < LEAST_FREE:
            problems.append(f"{there} has {free:.1f} GB free, less than {LEAST_FREE}: choose with {remedy}")
        if remedy and not os.access(there, os.W_OK):
            problems.append(f"{there} cannot be written: choose another folder with {remedy}")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total / GIGABYTE
        yield "shared memory", f"{size:.1f} GB"
        if size < LEAST_SHARED:
            problems.append(
                f"/dev/shm has {size:.2f} GB: loader processes may die with a bus error; use --workers 0, or "
                "docker run --shm-size 2g"
            )


def _weights(problems: list[str]) -> Facts:
    if find_spec("torch") is None or find_spec("timm") is None:
        yield "none needed", "exported models carry theirs"
        return
    from adcommon.models.weights import KNOWN, describe

    found = [source for source in map(describe, KNOWN) if source.found]
    for source in found:
        yield source.tag, str(source.found)
    yield "others", f"{len(KNOWN) - len(found)} would be downloaded when they are used: ad weights"
    if not found and os.environ.get("HF_HUB_OFFLINE"):
        problems.append(
            "no backbone's weights are here and HF_HUB_OFFLINE is set: put files into $AD_WEIGHTS"
        )


def _environment() -> Facts:
    for name, value in sorted(os.environ.items()):
        if name.startswith(SHOWN):
            yield name, "(set)" if "TOKEN" in name or "KEY" in name else value


def _without_home(text: str) -> str:
    try:
        return text.replace(str(Path.home()), "~")
    except RuntimeError:  # there is no home folder
        return text
