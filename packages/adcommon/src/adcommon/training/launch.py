"""Many trials: here, as tasks of a Ray cluster, or as jobs of Slurm; watched in one place.

A launcher takes units of work and says of each how it goes. Whoever runs them, a trial leaves the same
folder, and goes on in it: what a killed worker or launcher left unfinished is resumed by the same command.
"""

import logging
import math
import re
import signal
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from tqdm import tqdm

from adcommon.errors import BadValue, UserError
from adcommon.io.schema import check_fields
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial, Unit, error_of, last_line
from adcommon.types.names import LOG
from adcommon.types.values import AboveZero, Count, NotNegative, Positive

logger = logging.getLogger(__name__)

LAUNCH_GROUP = Group("Several trainings at the same time", sort_key=3)
_POLL_SECONDS = 0.1
_VIEW_SECONDS = 60
_FOR = {
    "local": ("jobs", "devices"),
    "ray": ("cpus", "gpus", "ray_address"),
    "slurm": ("jobs", "cpus", "gpus", "partition", "time", "mem"),
}
"""Flags that a launcher takes."""


@Parameter(name="*", group=LAUNCH_GROUP, negative_iterable=())
@dataclass(frozen=True, kw_only=True)
class Launch:
    """Where trainings run, and what each of them gets."""

    launcher: Literal["local", "ray", "slurm"] = "local"
    """Who runs them: this machine, a Ray cluster, or Slurm."""
    jobs: Annotated[Positive | None, Parameter(show_default=False)] = None
    """At the same time; here each may use all processors: set OMP_NUM_THREADS so that they share them.
    [default: here one for each device, in Slurm all]"""
    devices: Annotated[str | None, Parameter(show_default=False)] = None
    """local: numbers of the GPUs that they share, one for each job in turn: 0,1,2,3."""
    cpus: Annotated[Positive | None, Parameter(show_default=False)] = None
    """ray, slurm: processors for each. [default: 1]"""
    gpus: Annotated[NotNegative | None, Parameter(show_default=False)] = None
    """ray, slurm: GPUs for each; Ray also takes a share of one. [default: 0]"""
    ray_address: Annotated[str | None, Parameter(show_default=False)] = None
    """ray: of the cluster; `local` starts one on this machine. [default: auto, the one that runs here]"""
    partition: Annotated[str | None, Parameter(show_default=False)] = None
    """slurm: where to queue. [default: Slurm's own]"""
    time: Annotated[Positive | None, Parameter(show_default=False)] = None
    """slurm: minutes after which a job is saved and queued again. [default: 720]"""
    mem: Annotated[AboveZero | None, Parameter(show_default=False)] = None
    """slurm: gigabytes of memory for each. [default: Slurm's own]"""
    retries: Count = 2
    """How often one that was killed is gone on with."""

    def __post_init__(self) -> None:
        """Refuse what the launcher has no use for."""
        check_fields(self)
        known = {name for names in _FOR.values() for name in names}
        for name in known.difference(_FOR[self.launcher]):
            if getattr(self, name) is not None:
                raise BadValue(
                    f"--{name.replace('_', '-')} means nothing to --launcher {self.launcher}; leave it out"
                )
        if self.devices is not None and not re.fullmatch(r"\d{1,4}(,\d{1,4})*", self.devices, re.ASCII):
            raise BadValue(f"--devices is {self.devices[:60]!r}; expected numbers of GPUs: 0,1,2,3")

    @property
    def at_once(self) -> int:
        """Trainings at the same time, as far as it is said here."""
        return self.jobs or (len(self.devices.split(",")) if self.devices else 1)


def failure(failed: Sequence[Trial], count: int, again: str = "") -> UserError:
    """The error for runs that failed: the log of each, and its error.

    Args:
        count: of all runs.
        again: what the same command needs to try them again.
    """
    logs = "\n".join(
        f"  {trial.folder / LOG}: {indent(error_of(trial), ' ' * 4).strip()}" for trial in failed
    )
    how = f"the same command {again}".strip()
    return UserError(f"{len(failed)} of {count} runs failed:\n{logs}\n  Run {how} to try them again")


def run_trials(
    trials: Sequence[Trial],
    launch: Launch,
    folder: Path,
    stop: StopSignal,
    *,
    deadline: float = math.inf,
) -> list[Trial]:
    """Run what is not finished; those that failed.

    Args:
        folder: for what a launcher itself keeps.
        deadline: of time.monotonic(); what runs then is stopped in good order.
    """
    waiting = [trial for trial in trials if not trial.finished]
    if not waiting:
        return []
    from adcommon.training.launchers import LAUNCHERS

    place = Path.cwd()
    submit = LAUNCHERS[launch.launcher](launch, folder)
    progress = tqdm(
        desc="runs", initial=len(trials) - len(waiting), total=len(trials), unit="run", disable=None
    )
    failed: list[Trial] = []
    killed: Counter[Trial] = Counter()
    began = viewed = time.time()
    running = dict(zip(waiting, submit([Unit(trial, place) for trial in waiting]), strict=True))
    try:
        while running:
            if stopping := stop.requested or time.monotonic() > deadline:
                for job in running.values():
                    job.stop()
            for trial, job in list(running.items()):
                code = job.poll()
                if code is None:
                    continue
                del running[trial]
                if _was_killed(code) and killed[trial] < launch.retries and not stopping:
                    killed[trial] += 1
                    logger.warning("%s was killed, and is gone on with", trial.name)
                    (running[trial],) = submit([Unit(trial, place)])
                    continue
                progress.update()
                if code == 0:
                    logger.info("%s is finished", trial.name)
                elif not stopping:
                    logger.error("%s failed with exit code %d: %s", trial.name, code, last_line(trial))
                    failed.append(trial)
            if time.time() - viewed > _VIEW_SECONDS:
                viewed = time.time()
                logger.info("%s", _view(running, began))
            time.sleep(_POLL_SECONDS)
    finally:
        progress.close()
        for job in running.values():  # none is left, but after an error of ours
            job.stop()
    return failed


def _was_killed(code: int) -> bool:
    """True if a command ended by a signal, whether it could save what it had or not."""
    return code < 0 or code - 128 in [int(number) for number in signal.Signals]


def _view(running: Collection[Trial], began: float) -> str:
    """What runs now, and what it said last."""
    said = [
        f"  {trial.name}: {last_line(trial)}"
        for trial in running
        if (trial.folder / LOG).exists() and (trial.folder / LOG).stat().st_mtime >= began
    ]
    return "\n".join([f"{len(said)} running, {len(running) - len(said)} waiting", *said])
