"""Installed commands as processes of their own, alone or several that train together.

They are forked from a server that has imported the large libraries, which saves each of them nine seconds.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial, wraps
from importlib.metadata import entry_points
from pathlib import Path

from adcommon.testing.commands import Done

TIMEOUT_S = 120
"""A command that takes longer hangs."""
PATIENCE_S = 4
"""Of `Impatient` processes."""
_CHANGES = ("open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate")
"""Python's audit events of a change of the disk."""

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["accelerate", "timm", "safetensors.torch", "scipy.ndimage", "skimage.measure", __name__]
)


class Started:
    """A command that runs in a process of its own."""

    def __init__(
        self,
        command: str,
        *arguments: str | Path,
        before: Callable[[], object] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            command: as installed, `uniad-train`.
            arguments: the words after it.
            before: called in the new process before the command; can be pickled.
            environment: variables to add to those of this process.
        """
        self._command, self._folder = command, tempfile.TemporaryDirectory()
        words = [command, *map(str, arguments)]
        variables = {**os.environ, **(environment or {})}
        self._process = _server.Process(target=_run, args=(words, variables, self._folder.name, before))
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, timeout_s: int | None = None) -> Done:
        """Wait for its end.

        Raises:
            AssertionError: it hangs; it is killed then.
        """
        self._process.join(timeout_s or TIMEOUT_S)
        hangs = self._process.exitcode is None
        self.kill()
        done = Done(int(self._process.exitcode or 0), self.shown("stdout"), self.shown("stderr"))
        self._folder.cleanup()
        if hangs:
            raise AssertionError(f"{self._command} hangs\n{done.stdout}\n{done.stderr}")
        return done

    def kill(self) -> None:
        """End it without notice to it, unless it has ended."""
        self._process.kill()
        self._process.join()

    def shown(self, stream: str) -> str:
        """What it has written so far to `stdout` or `stderr`."""
        return Path(self._folder.name, stream).read_text(encoding="utf-8")


def run_together(
    command: str,
    *arguments: str | Path,
    processes: int = 2,
    signal_at: Path | None = None,
    slow: Callable[..., object] | None = None,
) -> list[Done]:
    """Run a command in several processes that talk over gloo, as torchrun starts them.

    Where they ask one another every 25 steps whether to stop, here they do every second one.

    Args:
        command: as installed.
        arguments: of all.
        processes: how many.
        signal_at: when this file is first written by rank 0, the last rank alone gets a SIGTERM.
        slow: a function that takes longer, wherever it is called, than processes wait for one another in a
            collective here.

    Returns:
        One for each rank.
    """
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    started: list[Started] = []
    try:
        for rank in reversed(range(processes)):
            before: Callable[[], object] | None = None
            if slow is not None:
                before = Impatient(slow)
            elif rank == 0 and signal_at is not None:
                before = SignalWhenSaving(signal_at, signal.SIGTERM, process=started[0].pid)
            environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            started.append(Started(command, *arguments, before=before, environment=environment))
        return [process.wait() for process in reversed(started)]
    finally:
        for process in started:
            process.kill()


class SignalWhenSaving:
    """Sends a signal when a file is about to take its place, which is a known moment of a training."""

    def __init__(
        self, file: Path, number: signal.Signals, *, time: int = 1, process: int | None = None
    ) -> None:
        """Do nothing before the call.

        Args:
            file: is written beside its place and then renamed.
            number: of the signal.
            time: which writing of the file is meant.
            process: who gets the signal; default: the process in which this is called.
        """
        self._file, self._number, self._process = str(file.resolve()), number, process
        self._left = time

    def __call__(self) -> None:
        """Look at every renaming in this process from now on."""
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: Sequence[object]) -> None:
        if event == "os.rename" and str(arguments[1]) == self._file:
            self._left -= 1
            if self._left == 0:
                os.kill(self._process or os.getpid(), self._number)


class Impatient:
    """Collectives that end after seconds, where NCCL takes minutes, and a function that takes longer.

    Whoever calls the function imports it later than this is called.
    """

    def __init__(self, slow: Callable[..., object]) -> None:
        """Do nothing before the call."""
        self._slow = slow

    def __call__(self) -> None:
        """Change both in this process."""
        import torch.distributed

        patience = timedelta(seconds=PATIENCE_S)
        begin = torch.distributed.init_process_group
        torch.distributed.init_process_group = partial(begin, timeout=patience)

        @wraps(self._slow)
        def slow(*arguments: object, **named: object) -> object:
            time.sleep(1.5 * PATIENCE_S)
            return self._slow(*arguments, **named)

        setattr(sys.modules[self._slow.__module__], self._slow.__name__, slow)


class KilledAtChange:
    """Kills its process before it changes the disk for the n-th time below a folder, from the call on."""

    def __init__(self, folder: Path, change: int, counted: Path | None = None) -> None:
        """Do nothing before the call.

        Args:
            change: which one, from 1.
            counted: file for the number of changes, at each of them.
        """
        self._folder, self._left, self._counted = str(folder.resolve()), change, counted
        self._seen = 0

    def __call__(self) -> None:
        """Look at every change in this process from now on."""
        self._one_by_one = threading.Lock()  # no process can be given one
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: Sequence[object]) -> None:
        if event not in _CHANGES or not str(arguments[0]).startswith(self._folder):
            return
        if event == "open" and not (
            isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            return
        if event == "os.mkdir" and threading.current_thread() is not threading.main_thread():
            return  # threads that draw race for their folders: one that comes too early asks again
        with self._one_by_one:
            self._seen += 1
            if self._counted is not None:
                self._counted.write_text(str(self._seen))
            if self._seen == self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def _run(
    words: list[str], variables: dict[str, str], folder: str, before: Callable[[], object] | None
) -> None:
    """What the new process does."""
    for number, stream in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(folder, stream), os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = words
    if "WORLD_SIZE" in variables:
        from adcommon.training.steps import steps

        assert steps.__kwdefaults__ is not None
        steps.__kwdefaults__["log_every"] = 2
    if before is not None:
        before()
    entry_points(group="console_scripts")[words[0]].load()()
