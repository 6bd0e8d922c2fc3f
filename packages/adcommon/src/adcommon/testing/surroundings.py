"""What lies around a run must stay as it is, whatever the run is given, and so must the network."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def untouched(folder: Path, *, but: Path | None = None) -> Iterator[None]:
    """Fail unless everything in a folder is the same after the block: names, kinds, contents.

    Args:
        but: what the block may write, a file or a folder.

    Raises:
        AssertionError: names what was written, changed or deleted.
    """
    before = contents(folder, but)
    yield
    after = contents(folder, but)
    changed = [str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    assert not changed, f"written, changed or deleted in {folder}: {sorted(changed)[:10]}"


def contents(folder: Path, but: Path | None = None) -> dict[Path, object]:
    """What is at each path at any depth; links are not followed."""
    found: dict[Path, object] = {}
    for path in folder.rglob("*"):
        if but is not None and (path == but or but in path.parents):
            continue
        if path.is_symlink():
            found[path] = path.readlink()
        else:
            found[path] = path.read_bytes() if path.is_file() else "folder"
    return found


def run_with_ray(*command: str | Path) -> None:
    """Run a program that starts Ray, in a network of its own; skip the test where one of them is missing.

    Ray takes the machine's outward address even when it is told another one.

    Raises:
        subprocess.CalledProcessError: the exit code is not 0.
    """
    pytest.importorskip("ray", reason="ray is not installed: uv pip install 'ray[serve]' 'adcommon[ray]'")
    alone = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network of its own can be made here for Ray: unshare --net")
    variables = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    subprocess.run([*alone, *command], env=variables, check=True, timeout=280)
