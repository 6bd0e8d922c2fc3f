"""What lies around a run must stay as it is, whatever the run is given."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def own_network() -> list[str]:
    """Words before a command line that give it a network with nothing in it but loopback; [] if none can."""
    words = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
    return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else []
