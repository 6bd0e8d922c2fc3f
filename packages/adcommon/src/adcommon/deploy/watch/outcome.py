"""What is done with an image that was judged: it is moved, a command is told. Nothing is ever overwritten."""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from adcommon.deploy.watch.arrivals import Known, digest, signature
from adcommon.io.files import atomic_write


def move(source: Path, target: Path, known: Known) -> None:
    """Move an image to a place that is free: `target`, or the same name with its digest.

    Where it lies there already, because an earlier moving was cut short, the source is removed. A source that
    becomes another image meanwhile stays.

    Raises:
        OSError: it could not be moved; it is where it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for place in (target, target.with_name(f"{target.stem}-{known.digest}{target.suffix}")):
        try:
            _put(source, place)
        except FileExistsError:
            if known.digest is None or digest(place) != known.digest:
                continue
        if signature(source) == known.signature:
            source.unlink()
        elif digest(place) != known.digest:
            place.unlink()
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))


def _put(source: Path, place: Path) -> None:
    """The same file under another name, or, on another disk, its copy."""
    try:
        if not source.is_symlink():
            os.link(source, place)
            return
    except FileExistsError:
        raise
    except OSError as error:  # another disk, or one that has no second names
        if error.errno == errno.ENOENT:
            raise
    place.touch(exist_ok=False)  # ours from here on
    try:
        with source.open("rb") as file:
            atomic_write(place, lambda copy: shutil.copyfileobj(file, copy))
        shutil.copystat(source, place)
    except OSError:
        place.unlink()
        raise


def tell(command: Sequence[str], image: Path, line: bytes, timeout_s: float) -> str | None:
    """Run a command, without a shell, with the line on its standard input.

    Args:
        command: its words; those that are "{}" become the image's path.

    Returns:
        Why it failed; None: it did not.
    """
    words = [str(image) if word == "{}" else word for word in command]
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        return str(error.strerror)
    try:
        process.communicate(line, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)  # also what it started
        process.kill()
        process.wait()
        return f"no end after {timeout_s:g} seconds"
    return f"exit code {process.returncode}" if process.returncode else None
