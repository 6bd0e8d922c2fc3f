"""Trainings that are stopped, killed and resumed must end in the bits of those that never were."""

import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
import torch

from adcommon.errors import Stopped
from adcommon.testing.commands import Done, succeed
from adcommon.testing.processes import SignalWhenSaving, Started, run_together
from adcommon.training.run import Run, RunGroup
from adcommon.training.stop import StopSignal


class StopsAfter(StopSignal):
    """Asks to stop at the n-th question."""

    def __init__(self, questions: int) -> None:
        """Nobody has asked yet."""
        self.number = 0
        self._left = questions

    @property
    def requested(self) -> bool:  # type: ignore[override]
        """True from the n-th question on."""
        self._left -= 1
        return self._left <= 0


def stopped_and_resumed(
    train: Callable[[Run, bool, StopSignal], object], folder: Path, *, questions: int, step: int
) -> tuple[Run, Run]:
    """Train twice in this process, once without a break and once stopped and resumed; both end in equal bits.

    Args:
        train: trains in the folder of a run, or resumes there.
        folder: of both runs.
        questions: the training is asked to stop when it looks for the n-th time whether it is.
        step: after which it is to stop then.

    Returns:
        The unbroken run and the other one.
    """
    whole, parts = (RunGroup(folder / name, resume=True).run("job") for name in ("whole", "parts"))
    train(whole, False, StopSignal())
    with pytest.raises(Stopped, match=rf"after step {step}\b.*--resume"):
        train(parts, False, StopsAfter(questions))
    train(parts, True, StopSignal())
    assert_same_bits(whole.folder, parts.folder)
    return whole, parts


def killed_and_resumed(command: str, words: Sequence[str | Path], folder: Path, job: str) -> None:
    """Kill a training in its second saving, resume it, and compare it with an unbroken one, bit by bit.

    Args:
        command: trains.
        words: its arguments but for `--out` and `--save-every`.
        folder: of both runs.
        job: the one folder of the run, which holds the model.
    """
    whole, parts = folder / "whole", folder / "parts"
    kill = SignalWhenSaving(parts / job / "resume" / "state.pt", signal.SIGKILL, time=2)
    killed = Started(command, *words, "--save-every", "1", "--out", parts, before=kill).wait()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (parts / job / "model").exists(), "killed too late"
    resumed = succeed(command, *words, "--out", parts, "--resume").stderr
    assert "resuming after step 1" in resumed, resumed
    succeed(command, *words, "--out", whole)
    assert_same_bits(whole / job, parts / job)


def one_of_two_stopped(command: str, words: Sequence[str | Path], folder: Path, job: str) -> None:
    """Send a SIGTERM to one of two processes of a training: both stop after the step that is saved.

    Resumed, they end in the bits of an unbroken training of two processes.

    Args:
        command: trains; for more steps than pass until its processes ask one another, which they do here
            after every second one, if the loop has no rhythm of its own.
        words: its arguments but for `--out` and `--save-every`.
        folder: of both runs.
        job: the one folder of the run, which holds the model.
    """
    whole, parts = folder / "whole", folder / "parts"
    state = parts / job / "resume" / "state.pt"
    both = run_together(command, *words, "--save-every", "3", "--out", parts, signal_at=state)
    assert [done.returncode for done in both] == [143, 143], _shown(both)
    step = torch.load(state, weights_only=True)["step"]
    assert all(f"after step {step}" in done.stderr for done in both), _shown(both)
    for out, resume in ((parts, ["--resume"]), (whole, [])):
        both = run_together(command, *words, "--out", out, *resume)
        assert [done.returncode for done in both] == [0, 0], _shown(both)
    assert_same_bits(whole / job, parts / job)


def assert_same_bits(
    first: Path, second: Path, names: Collection[str] = ("metrics.csv", "model.safetensors")
) -> None:
    """Fail unless two folders of runs have the same metrics and models, in the same places and bits."""
    ours, others = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.name in names}
        for folder in (first, second)
    )
    assert {Path(path).name for path in ours} == set(names), f"not trained: {first} has only {sorted(ours)}"
    different = [path for path in ours.keys() | others.keys() if ours.get(path) != others.get(path)]
    assert not different, f"{first} and {second} differ in {', '.join(sorted(different))}"


def _shown(both: Sequence[Done]) -> str:
    return "\n".join(f"{done.returncode}\n{done.stderr}" for done in both)
