"""Training commands in processes of their own: started, gone on with, and known to be finished."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from adcommon.errors import BadValue, unknown_name
from adcommon.io.files import MARKER, atomic_write, mark
from adcommon.io.lock import in_use
from adcommon.io.schema import read_yaml
from adcommon.methods import commands, installed
from adcommon.types.names import FINISHED, LOG

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

STOPPED = 128 + signal.SIGTERM
"""Exit code of a command that was asked to stop, and has saved what it had."""
CUT_SHORT = "cut short by --minutes"
"""What the log says of a training that had no more time."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a training command: the unit of work, a command line and its folder."""

    name: str
    program: str
    """Path of the command."""
    folder: Path
    arguments: tuple[str, ...]
    """After the command's name; without --out and --resume."""
    varied: str = ""
    """What it has of its own besides the seed, such as "lr=0.1"."""
    further: tuple[str, ...] = ()
    """Arguments that may be others when it goes on, such as --minutes."""

    @property
    def finished(self) -> bool:
        """True if this very command line has ended well here."""
        file = self.folder / FINISHED
        return file.exists() and read_yaml(file) == list(self.arguments)

    def finish(self) -> None:
        """Write down that it has."""
        atomic_write(self.folder / FINISHED, yaml.safe_dump(list(self.arguments)))


def find_command(command: str) -> str:
    """Path of a method's console command beside the running Python."""
    known = [name for method in installed() for name in commands(method)]
    if command not in known:
        raise unknown_name("command", command, known)
    program = shutil.which(command, path=str(Path(sys.executable).parent)) or shutil.which(command)
    if program is None:
        raise BadValue(f"the command {command} is installed and not to be found beside {sys.executable}")
    return program


def last_line(trial: Trial) -> str:
    """The last thing a run said."""
    return next((line.strip() for line in reversed(_said(trial)) if line.strip()), "it said nothing")


def error_of(trial: Trial) -> str:
    """The error that a run ended with, all its lines; the last thing it said, if it was no user's mistake."""
    lines = _said(trial)
    begins = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return "\n".join(lines[begins[-1] :]).strip() if begins else last_line(trial)


def _said(trial: Trial) -> list[str]:
    log = trial.folder / LOG
    return log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []


def in_log(trial: Trial, pattern: str) -> "re.Match[str] | None":
    """Where the training's own log says something first."""
    return re.search(pattern, (trial.folder / "log.txt").read_text(encoding="utf-8", errors="replace"))


def cut_short(trial: Trial) -> "re.Match[str] | None":
    """How many `last` steps of `all` took how many `seconds`; None: the training had time for all."""
    steps = r"\d+ of (?P<all>\d+) steps were done, the last (?P<last>\d+) in (?P<seconds>\S+) s"
    return in_log(trial, f"{CUT_SHORT}: {steps}")


def start(
    trial: Trial,
    environment: Mapping[str, str] | None = None,
    place: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start it, or go on with it; what it says is in its log.

    Args:
        environment: variables that it has besides those of this process.
        place: where relative paths begin, if not here.
    """
    mark(trial.folder)
    begun = any(path.name not in (MARKER, LOG) for path in trial.folder.iterdir())
    arguments = [trial.program, *trial.arguments, *trial.further, "--out", str(trial.folder), "--resume"]
    with (trial.folder / LOG).open("ab" if begun else "wb") as log:
        return subprocess.Popen(
            arguments,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            cwd=place,
        )


class Unit:
    """A trial that runs where it is called: in a thread here, or in a worker that it was sent to.

    However the call ends, the training does too, with its state saved. Only the training of a killed worker
    stays behind; the next call waits for it, so that nothing is done twice.
    """

    def __init__(self, trial: Trial, place: Path) -> None:
        """Nothing is started.

        Args:
            place: where relative paths begin, on whichever machine it runs.
        """
        self._trial, self._place = replace(trial, folder=place / trial.folder), place
        self._environment = {name: value for name, value in os.environ.items() if name.startswith("AD_")}
        self.folder = self._trial.folder
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, environment: Mapping[str, str] | None = None) -> int:
        """Run the trial unless it is finished, and write down that it is; the command's exit code."""
        while in_use(self._trial.folder) and not self._stopped:
            time.sleep(_POLL_SECONDS)
        if self._trial.finished:
            return 0
        if self._stopped:
            return STOPPED
        variables = {**self._environment, **(environment or {})}
        self._process = process = start(self._trial, environment=variables, place=self._place)
        try:
            while (code := process.poll()) is None:
                if self._stopped:
                    process.terminate()
                    code = process.wait()
                    break
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:  # a cluster takes the worker away
                process.terminate()
                process.wait()
        if code == 0:
            self._trial.finish()
        return code

    def stop(self) -> None:
        """From another thread: save, and end."""
        self._stopped = True

    def checkpoint(self) -> "DelayedSubmission":
        """What submitit calls in the signal's handler before the job is queued again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            with suppress(ChildProcessError):  # it has ended; `wait` could find its own lock held here
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Unit(self._trial, self._place))
