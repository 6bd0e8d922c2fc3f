import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from adcommon.errors import BadValue
from adcommon.io.lock import locked
from adcommon.testing.surroundings import run_with_ray
from adcommon.training import launch as launch_module
from adcommon.training import launchers
from adcommon.training.launch import Launch, run_trials
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial, Unit

TRAINING = """#!{python}
import os, signal, sys, time
from pathlib import Path

out = Path(sys.argv[sys.argv.index("--out") + 1])
state = out / "steps"
state.touch()

def stop(*_):
    (out / "saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
print("at work", flush=True)
with (out / "starts").open("a") as starts:
    starts.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + f" {{os.getppid()}}\\n")
for step in range(len(state.read_text()), {steps}):
    time.sleep(0.05)
    with state.open("a") as file:
        file.write("x")
    if "--dies" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
"""
STEPS = 20
SBATCH = """#!{python}
import os, re, subprocess, sys
from pathlib import Path

text = Path(sys.argv[1]).read_text()
with Path("{folder}/submitted.sh").open("a+") as file:
    file.write(text)
    file.seek(0)
    number = str(file.read().count("#!/bin/bash"))
array = re.search("array=0-([0-9]+)", text)
for task in range(int(array[1]) + 1 if array else 1):
    job = dict(SLURM_JOB_ID=number)
    if array:
        job |= dict(SLURM_ARRAY_JOB_ID=number, SLURM_ARRAY_TASK_ID=str(task))
    log = open("{folder}/job.log", "a")
    subprocess.Popen(["bash", sys.argv[1]], env=os.environ | job, stdout=log, stderr=log)
print("Submitted batch job", number)
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""
SACCT = """#!/bin/sh
printf 'JobID|State|NodeList\\n1_0|RUNNING|n\\n1_1|RUNNING|n\\n1|RUNNING|n\\n2|RUNNING|n\\n'
"""


@pytest.fixture
def trials(tmp_path: Path) -> Callable[..., list[Trial]]:
    """Trainings of twenty steps, which go on where they were; each writes down its starts."""
    script = tmp_path / "a-train"
    script.write_text(TRAINING.format(python=sys.executable, steps=STEPS))
    script.chmod(0o755)
    return lambda count, *flags: [
        Trial(f"run{number}", str(script), tmp_path / "out" / f"run{number}", flags)
        for number in range(count)
    ]


def starts(trial: Trial) -> list[str]:
    """The devices that each start of it had."""
    lines = (trial.folder / "starts").read_text().splitlines()
    return [line.partition(" ")[0] for line in lines]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_view_says_what_runs_and_what_it_said_last(
    trials: Callable[..., list[Trial]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(launch_module, "_VIEW_SECONDS", 0.0)
    caplog.set_level("INFO")
    assert run_trials(trials(3), Launch(jobs=2), tmp_path, StopSignal()) == []
    assert "2 running, 1 waiting\n  run0: at work\n  run1: at work" in caplog.text


def test_each_job_has_a_device_of_those_that_are_visible(
    trials: Callable[..., list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    both = trials(2)
    assert run_trials(both, Launch(devices="0,2"), tmp_path, StopSignal()) == []
    assert sorted(starts(both[0]) + starts(both[1])) == ["4", "7"]
    with pytest.raises(BadValue, match="--devices has 3; CUDA_VISIBLE_DEVICES shows 3"):
        run_trials(trials(3), Launch(devices="3"), tmp_path, StopSignal())


def test_a_training_that_is_killed_is_gone_on_with_and_not_for_ever(
    trials: Callable[..., list[Trial]], tmp_path: Path
) -> None:
    (trial,) = trials(1, "--dies")
    assert run_trials([trial], Launch(retries=2), tmp_path, StopSignal()) == [trial]
    assert len(starts(trial)) == 3
    assert (trial.folder / "steps").read_text() == "xxx"


def test_what_a_killed_launcher_left_running_is_waited_for(trials: Callable[..., list[Trial]]) -> None:
    (trial,) = trials(1)
    unit = Unit(trial, Path.cwd())
    codes: list[int] = []
    with locked(trial.folder):
        waiting = threading.Thread(target=lambda: codes.append(unit()))
        waiting.start()
        time.sleep(0.5)
        assert not (trial.folder / "starts").exists()
    waiting.join(30)
    assert codes == [0]
    assert Unit(trial, Path.cwd())() == 0
    assert len(starts(trial)) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"launcher": "ray", "jobs": 2}, "--jobs means nothing to --launcher ray"),
        ({"ray_address": "auto"}, "--ray-address means nothing to --launcher local"),
        ({"devices": "0,cuda:1"}, "expected numbers of GPUs"),
    ],
)
def test_a_flag_that_would_have_no_effect_is_refused(flags: dict[str, str], message: str) -> None:
    with pytest.raises(BadValue, match=message):
        Launch(**flags)


def test_jobs_of_submitit_go_on_after_a_preemption(
    trials: Callable[..., list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []

    class Remembered(launchers._Job):
        def __init__(self, job) -> None:
            jobs.append(job)
            super().__init__(job)

    monkeypatch.setattr(launchers, "_Job", Remembered)
    monkeypatch.setitem(launchers.LAUNCHERS, "slurm", partial(launchers.on_slurm, cluster="local"))
    both = trials(2)
    watching = threading.Thread(
        target=lambda: run_trials(both, Launch(launcher="slurm"), tmp_path / "out", StopSignal())
    )
    watching.start()
    until(lambda: (both[0].folder / "steps").exists() and len((both[0].folder / "steps").read_text()) > 3)
    pid = subprocess.check_output(["pgrep", "-P", jobs[0].job_id], text=True)
    os.kill(int(pid), signal.SIGUSR2)
    watching.join(60)
    assert [trial.finished for trial in both] == [True, True]
    assert [len(starts(trial)) for trial in both] == [2, 1]
    assert (both[0].folder / "saved").exists()
    assert len((both[0].folder / "steps").read_text()) == STEPS


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs what is queued at once, and says of every job that it runs."""
    scripts = {
        "sbatch": SBATCH.format(python=sys.executable, folder=tmp_path),
        "srun": SRUN,
        "sacct": SACCT,
    }
    for name, text in scripts.items():
        script = tmp_path / name
        script.write_text(text)
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("slurm")
def test_a_job_whose_training_is_killed_is_queued_again(
    trials: Callable[..., list[Trial]], tmp_path: Path
) -> None:
    (trial,) = trials(1, "--dies")
    assert run_trials([trial], Launch(launcher="slurm", retries=1), tmp_path / "out", StopSignal()) == [trial]
    assert len(starts(trial)) == 2


@pytest.mark.usefixtures("slurm")
def test_a_second_call_watches_the_jobs_that_slurm_has(
    trials: Callable[..., list[Trial]], tmp_path: Path
) -> None:
    launch = Launch(launcher="slurm", partition="gpu", gpus=1.0, cpus=8, mem=32.0, time=240, jobs=4)
    both, stop = trials(2), StopSignal()
    watching = threading.Thread(target=lambda: run_trials(both, launch, tmp_path / "out", stop))
    watching.start()
    until(lambda: all((trial.folder / "starts").exists() for trial in both))
    stop.requested = True
    watching.join(60)
    assert run_trials(both, launch, tmp_path / "out", StopSignal()) == []
    assert [trial.finished for trial in both] == [True, True]
    assert [len(starts(trial)) for trial in both] == [1, 1]
    asked = [line for line in (tmp_path / "submitted.sh").read_text().splitlines() if "#SBATCH" in line]
    wanted = ["array=0-1%2", "partition=gpu", "gpus-per-node=1", "cpus-per-task=8", "mem=32GB", "time=240"]
    assert [f"#SBATCH --{flag}" for flag in wanted if f"#SBATCH --{flag}" not in asked] == []
    assert len(asked) == len(set(asked))  # submitted once
    assert "#SBATCH --signal=USR2@90" in asked


def test_slurm_is_not_replaced_where_it_is_missing(
    trials: Callable[..., list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadValue, match="needs sbatch and srun, not found here"):
        run_trials(trials(2), Launch(launcher="slurm"), tmp_path / "out", StopSignal())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_ray_cluster_loses_nothing_when_a_worker_and_the_driver_are_killed(
    trials: Callable[..., list[Trial]], tmp_path: Path
) -> None:
    six = trials(6)
    program = Path(__file__).parent / "ray_cluster.py"
    run_with_ray(sys.executable, program, six[0].program, tmp_path / "out")
    assert [trial.finished for trial in six] == [True] * 6
    assert {len((trial.folder / "steps").read_text()) for trial in six} == {STEPS}
    assert sum(len(starts(trial)) for trial in six) <= 6 + 3  # a worker's one, and the driver's two in flight
