"""Which libraries and which commit computed something; nothing is imported to find out."""

import functools
import hashlib
import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from adcommon.io.files import plain

_LIBRARIES = (
    "adcommon",
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "safetensors",
    "numpy",
    "scipy",
    "pillow",
)


def library_versions(method: str = "") -> dict[str, str]:
    """Installed versions of Python, a method's package and the libraries that decide numbers.

    Nothing is imported.
    """
    found = {"python": platform.python_version()}
    points = entry_points(group="adcommon.methods", name=method)
    packages = [point.dist.name for point in points if point.dist is not None]
    for name in (*packages, *_LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def provenance(*, method: str, recipe: object, device: str, note: str | None = None) -> dict[str, Any]:
    """What made a result or a model, besides what its row or config says: equal facts, equal numbers.

    `commit` is that of this package's repository, None where it was installed from elsewhere.

    Args:
        method: whose package's version is named.
        recipe: a dataclass; its digest is equal for equal values.
        device: in words.
        note: the user's own words.
    """
    values = json.dumps(plain(recipe), sort_keys=True)
    facts = {
        "commit": own_commit(),
        "versions": library_versions(method),
        "recipe": hashlib.blake2b(values.encode(), digest_size=6).hexdigest(),
        "device": device,
    }
    return facts if note is None else {**facts, "note": note}


@functools.cache
def own_commit() -> str | None:
    """Commit of this package's repository; None if it was installed from elsewhere."""
    return git_commit(Path(__file__))


def command_line() -> str:
    """The command that runs, as it would be typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def git_commit(file: Path) -> str | None:
    """Commit of the repository that tracks `file`, with "-dirty" after local changes; None if none does."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=file.parent, capture_output=True, text=True, timeout=10, check=True
        ).stdout

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    except (OSError, subprocess.SubprocessError):
        return None
