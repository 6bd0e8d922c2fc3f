"""Installed commands as a user runs them, in this process, and what they say and leave behind."""

import csv
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from adcommon.results.rows import read_results


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


def succeed(command: str, *arguments: str | Path) -> Done:
    """Run a command in this process.

    Raises:
        AssertionError: its exit code is not 0.
    """
    done = call(command, *arguments)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def refused(command: str, *arguments: str | Path) -> str:
    """Run a command in this process that a user's mistake must end; its message, on one line.

    Raises:
        AssertionError: its exit code is not 2, or it shows a traceback.
    """
    done = call(command, *arguments)
    shown = done.stdout + done.stderr
    if done.returncode != 2 or "Traceback" in shown:
        raise AssertionError(f"{command} ended with {done.returncode}\n{shown}")
    return " ".join(shown.replace("│", " ").split())


def flags(given: Mapping[str, str], **changed: str) -> list[str]:
    """Flags as words of a command line, with some added or changed.

    >>> flags({"--shots": "2 4", "--device": "cpu"}, batch_size="8", device="cuda")
    ['--shots', '2', '4', '--device', 'cuda', '--batch-size', '8']
    """
    both = {**given, **{f"--{name.replace('_', '-')}": value for name, value in changed.items()}}
    return [word for name, value in both.items() for word in (name, *value.split())]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of the report in a folder, read as `ad report` does, without the seconds that differ."""
    return [{name: row[name] for name in row if name != "seconds"} for row in read_results(folder)]


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
