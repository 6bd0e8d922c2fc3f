"""Run installed console commands as a user does: in this process, in one of their own, or killed half-way."""

import io
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left on the terminal."""

    returncode: int
    stdout: str
    stderr: str


def call(command: str, *arguments: str | Path) -> Done:
    """Run a command in this process, which saves the seconds that importing torch takes.

    Args:
        command: as installed, `uniad-train`.
    """
    function = entry_points(group="console_scripts")[command].load()
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, [command, *map(str, arguments)]
    code: object = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            function()
    except SystemExit as exit:
        code = exit.code
    finally:
        sys.argv = argv
    return Done(int(str(code or 0)), out.getvalue(), err.getvalue())


def script(command: str, *arguments: str | Path, processes: int = 1) -> list[str]:
    """The words that start a command as a process of its own, or as several that train together."""
    words = [str(Path(sys.executable).with_name(command)), *map(str, arguments)]
    if processes == 1:
        return words
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
    return [*launcher, "--nproc-per-node", str(processes), *words]


def kill_as_soon_as(file: Path, words: list[str]) -> None:
    """Start a command and kill it, without notice to it, when it has written a file.

    Raises:
        AssertionError: it ended by itself, or the file did not appear.
    """
    with tempfile.TemporaryFile("w+") as shown:
        process = subprocess.Popen(words, stdout=shown, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _TIMEOUT_S
        while not file.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        code = process.wait()
        shown.seek(0)
        if code != -signal.SIGKILL or not file.exists():
            raise AssertionError(f"not killed after writing {file}: exit code {code}\n{shown.read()}")
