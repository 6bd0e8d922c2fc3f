"""Training commands in processes of their own: started, gone on with, and known to be finished."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from adcommon.errors import BadValue, unknown_name
from adcommon.io.files import MARKER, atomic_write, mark
from adcommon.io.schema import read_yaml
from adcommon.methods import commands, installed

LOG = "command.log"
"""In a run's folder: all that the command said."""
FINISHED = "command-finished.yaml"
"""In a run's folder: the command line that ended well there."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a training command."""

    name: str
    folder: Path
    arguments: tuple[str, ...]
    """After the command's name; without --out and --resume."""
    varied: str = ""
    """What it has of its own besides the seed, such as "lr=0.1"."""

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
    said = (trial.folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")


def start(program: Sequence[str], trial: Trial, further: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """Start it, or go on with it; what it says is in its log.

    Args:
        further: arguments that may be others when it goes on.
    """
    mark(trial.folder)
    begun = any(path.name not in (MARKER, LOG) for path in trial.folder.iterdir())
    arguments = [*program, *trial.arguments, *further, "--out", str(trial.folder), "--resume"]
    with (trial.folder / LOG).open("ab" if begun else "wb") as log:
        return subprocess.Popen(
            arguments, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=os.environ
        )
