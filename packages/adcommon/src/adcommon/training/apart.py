"""A command's jobs shared out: each in a process of its own, wherever the launcher runs it. No torch here.

The process that was called keeps the run's folder, its checks and its tables. Each of the others repeats the
command with the run's recipe.yaml and the name of one job, and writes in that job's folder alone.
"""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from adcommon.errors import BadValue
from adcommon.training.launch import run_trials
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial, find_command


def refuse_together(settings: Settings, jobs: Collection[str]) -> None:
    """Refuse what cannot be shared out.

    Raises:
        BadValue: one job alone, several processes already, or a device for all beside one for each.
    """
    if len(jobs) < 2:
        raise BadValue(
            "there is one model to train, and nothing to share out; leave out --launcher, --jobs and "
            "--devices, or train it for several seeds with `ad sweep`"
        )
    if "LOCAL_RANK" in os.environ:
        raise BadValue("--launcher and --jobs start a process for each model; leave out torchrun")
    if settings.launch.devices and (settings.gpu or settings.device):
        raise BadValue("--devices gives each model a GPU of its own; leave out --gpu and --device")


def share_out(folder: Path, jobs: Collection[str], settings: Settings, stop: StopSignal) -> list[Trial]:
    """Train what is not finished; those that failed.

    Args:
        folder: of the run, with its recipe.yaml.
        jobs: their names.
    """
    program = find_command(Path(sys.argv[0]).name)
    arguments = ("--config", str(folder / "recipe.yaml"), "--job")
    trials = [Trial(name, program, folder / name, (*arguments, name)) for name in jobs]
    return run_trials(trials, settings.launch, folder, stop)
