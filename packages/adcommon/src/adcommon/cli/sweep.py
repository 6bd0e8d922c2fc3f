"""`ad sweep`: one training command, run for several seeds or values, each run in a process of its own.

OUT/<name>=<value>,.../   what that run leaves behind, and its output in sweep.log
OUT/results.json          the rows of all runs, each with its place; .csv .md .html
OUT/spread.csv            mean and standard deviation over seeds

The same command again goes on where it was stopped: finished runs are kept, others are resumed.
"""

import itertools
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from cyclopts import Parameter
from tqdm import tqdm

from adcommon.errors import BadValue, Stopped, UserError, unknown_name
from adcommon.io.files import MARKER, atomic_write, csv_columns, mark, refuse_foreign
from adcommon.io.lock import locked
from adcommon.io.schema import read_yaml
from adcommon.methods import commands, installed
from adcommon.results.rows import Row, read_results, write_results
from adcommon.results.spread import spread, spread_tables
from adcommon.results.tables import aligned
from adcommon.training.logging import start_logging
from adcommon.training.stop import StopSignal
from adcommon.types.names import check_name
from adcommon.types.values import Positive, Seed

logger = logging.getLogger(__name__)

FINISHED = "sweep-finished.yaml"
"""In a run's folder: the command line that ended well there."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the sweep."""

    name: str
    folder: Path
    arguments: tuple[str, ...]
    """After the command's name; without --out and --resume."""
    varied: str
    """What it has of its own besides the seed, such as "lr=0.1"."""

    @property
    def finished(self) -> bool:
        """True if this very command line has ended well here."""
        file = self.folder / FINISHED
        return file.exists() and read_yaml(file) == list(self.arguments)


def sweep(
    command: str,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    seeds: Annotated[
        tuple[Seed, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    vary: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    out: Path = Path("runs/sweep"),
    jobs: Positive = 1,
) -> None:
    """Run a training command for several seeds or values; mean and standard deviation of what comes out.

    The same command again goes on where it was stopped. For example
    `ad sweep recontrast-train --seeds 0 1 2 --vary backbone=resnet18,resnet50 --dataset synthetic`.

    Args:
        command: A training command of an installed method.
        arguments: Its flags, the same for every run.
        seeds: Values of its --seed; short for --vary seed=0,1,2.
        vary: FLAG=VALUE,VALUE,...; with several of them every combination is run.
        out: Folder for all runs.
        jobs: Runs at the same time. Each may use all processors; set OMP_NUM_THREADS so that they share them.
    """
    start_logging(None)
    pairs = (entry.partition("=") for entry in vary)
    values = {flag.removeprefix("--"): listed.split(",") for flag, _, listed in pairs}
    if seeds:
        values["seed"] = [str(seed) for seed in seeds]
    program = find_command(command)
    trials = plan(arguments, values, out)
    for folder in (out, *(trial.folder for trial in trials)):
        refuse_foreign(folder)
    with locked(out), StopSignal() as stop:
        mark(out)
        failed = _run_all([program], trials, jobs, stop)
        if stop.requested:
            raise Stopped("stopped; run the same command to go on", stop.number)
    rows: list[Row] = [
        {**row, "varied": trial.varied}
        for trial in trials
        if trial not in failed
        for row in read_results(trial.folder)
    ]
    if rows:
        write_results(out, rows)
        lines = spread(rows)
        atomic_write(out / "spread.csv", csv_columns(lines))
        print("\n\n".join(map(aligned, spread_tables(lines))))
    if failed:
        logs = "\n".join(f"  {trial.folder / 'sweep.log'}: {last_line(trial)}" for trial in failed)
        raise UserError(
            f"{len(failed)} of {len(trials)} runs failed:\n{logs}\n  Run the same command to try them again"
        )


def find_command(command: str) -> str:
    """Path of a method's console command beside the running Python."""
    known = [name for method in installed() for name in commands(method)]
    if command not in known:
        raise unknown_name("command", command, known)
    program = shutil.which(command, path=str(Path(sys.executable).parent)) or shutil.which(command)
    if program is None:
        raise BadValue(f"the command {command} is installed and not to be found beside {sys.executable}")
    return program


def plan(arguments: Sequence[str], vary: Mapping[str, Sequence[str]], out: Path) -> list[Trial]:
    """Every combination of the values, the last flag varying fastest.

    >>> [trial.name for trial in plan([], {"lr": ["0.1", "0.2"], "seed": ["0", "1"]}, Path())]
    ['lr=0.1,seed=0', 'lr=0.1,seed=1', 'lr=0.2,seed=0', 'lr=0.2,seed=1']
    """
    own = {"--out", "--resume", "--force", "--save-dir", "--save-name"}
    own |= {f"--{flag.replace('_', '-')}" for flag in vary}
    for argument in arguments:
        if argument.partition("=")[0].replace("_", "-") in own:
            raise BadValue(f"{argument} is set by the sweep for each run; leave it out")
    for flag, values in vary.items():
        if not flag or not all(values) or not values or len(set(values)) < len(values):
            raise BadValue(
                f"'{flag}' is to take the values {list(values)}; expected a flag and one or more values, "
                "each once: --vary lr=0.1,0.2"
            )
    trials = []
    for values in itertools.product(*vary.values()):
        pairs = list(zip(vary, values, strict=True))
        name = ",".join(f"{flag}={value}" for flag, value in pairs)
        check_name(name, "run")
        given = [word for flag, value in pairs for word in (f"--{flag}", value)]
        varied = ",".join(f"{flag}={value}" for flag, value in pairs if flag != "seed")
        trials.append(Trial(name, out / name, (*arguments, *given), varied))
    return trials


def last_line(trial: Trial) -> str:
    """The last thing a run said."""
    said = (trial.folder / "sweep.log").read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")


def _run_all(program: Sequence[str], trials: Sequence[Trial], jobs: int, stop: StopSignal) -> list[Trial]:
    """Run what is not finished, `jobs` at a time; those that failed."""
    waiting = iter([trial for trial in trials if not trial.finished])
    running: dict[Trial, subprocess.Popen[bytes]] = {}
    failed: list[Trial] = []
    done = sum(trial.finished for trial in trials)
    progress = tqdm(desc="runs", initial=done, total=len(trials), unit="run", disable=None)
    try:
        while True:
            if not stop.requested:
                for trial in itertools.islice(waiting, jobs - len(running)):
                    logger.info("%s", trial.name)
                    running[trial] = _start(program, trial)
            if not running:
                return failed
            if stop.requested:
                for process in running.values():
                    process.terminate()
            for trial, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[trial]
                progress.update()
                if code == 0:
                    atomic_write(trial.folder / FINISHED, yaml.safe_dump(list(trial.arguments)))
                elif not stop.requested:
                    logger.error("%s failed with exit code %d: %s", trial.name, code, last_line(trial))
                    failed.append(trial)
            time.sleep(_POLL_SECONDS)
    finally:
        progress.close()
        for process in running.values():  # none is left, but after an error of ours
            process.kill()


def _start(program: Sequence[str], trial: Trial) -> "subprocess.Popen[bytes]":
    mark(trial.folder)
    begun = any(path.name not in (MARKER, "sweep.log") for path in trial.folder.iterdir())
    arguments = [*program, *trial.arguments, "--out", str(trial.folder), "--resume"]
    with (trial.folder / "sweep.log").open("ab" if begun else "wb") as log:
        return subprocess.Popen(
            arguments, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=os.environ
        )
