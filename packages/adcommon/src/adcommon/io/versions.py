"""Which libraries and which commit computed something; nothing is imported to find out."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

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
