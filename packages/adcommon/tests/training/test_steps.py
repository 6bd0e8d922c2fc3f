import math
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn

from adcommon.data.preprocess import Preprocess
from adcommon.errors import Diverged, Stopped
from adcommon.evaluation.evaluate import evaluate
from adcommon.training.steps import Progress, Readings, Step, refuse_diverged, steps
from adcommon.training.stop import StopSignal
from adcommon.types.prediction import Prediction
from adcommon.types.records import Record


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_what_is_due_is_due_at_its_multiples_and_readings_wherever_anything_is(accelerator) -> None:
    found = list(
        steps(2, 12, StopSignal(), accelerator, what="x", save_every=5, evaluate_every=4, log_every=6)
    )
    assert [step.number for step in found] == list(range(3, 13))
    assert [step.number for step in found if step.saves] == [5, 10, 12]
    assert [step.number for step in found if step.evaluates] == [4, 8]  # that of the end is another's
    assert [step.number for step in found if step.is_due] == [4, 5, 6, 8, 10, 12]
    assert [step.number for step in found if step.is_last] == [12]


def saved_until_stopped(accelerator: Accelerator, at: int, saved: list[int], **options) -> None:
    """Run until somebody asks to stop at a step; the steps whose state was saved."""
    stop = StopSignal()
    for step in steps(0, 9, stop, accelerator, what="x", **options):
        stop.requested = step.number == at
        saved += [step.number] * step.saves


def test_a_stop_is_asked_for_after_the_step_and_its_state_is_saved_first(accelerator) -> None:
    saved: list[int] = []
    with pytest.raises(Stopped, match="stopped after step 2 of x"):
        saved_until_stopped(accelerator, 2, saved)
    assert saved == [2]


def test_after_the_last_step_a_signal_ends_the_evaluation_in_the_middle(accelerator, tmp_path: Path) -> None:
    scored = []

    def score(images: torch.Tensor) -> Prediction:
        scored.append(len(images))
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:  # such as that of a decoder
            pytest.fail("the signal was taken for an error")
        return Prediction(torch.zeros(1), None)

    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    records = [Record(image=tmp_path / "image.png", category="x", label=0)] * 3
    detector = SimpleNamespace(score=score, preprocess=Preprocess(image_size=8))
    with StopSignal() as stop:
        assert [step.saves for step in steps(0, 2, stop, accelerator, what="x")] == [False, True]
        with pytest.raises(Stopped, match=r"after all steps of x; .*--resume") as stopped:
            evaluate(detector, {"x": records}, batch_size=1)
        assert (scored, stopped.value.number) == ([1], signal.SIGTERM)


def test_the_next_training_has_a_state_to_save_before_it_stops(accelerator) -> None:
    saved = []
    with StopSignal() as stop:
        list(steps(0, 2, stop, accelerator, what="x"))
        with pytest.raises(Stopped, match="after step 1 of y"):  # noqa: PT012
            for step in steps(0, 9, stop, accelerator, what="y"):
                signal.raise_signal(signal.SIGTERM)
                saved += [step.number] * step.saves
    assert saved == [1]


def test_where_no_state_can_be_saved_states_and_stops_wait(accelerator) -> None:
    saved: list[int] = []
    with pytest.raises(Stopped, match="after step 7"):
        saved_until_stopped(accelerator, 5, saved, save_every=2, rests=lambda number: number % 3 == 1)
    assert saved == [4, 7]


def test_a_training_without_time_ends_with_a_whole_step_that_is_its_last(accelerator, caplog) -> None:
    found = list(steps(0, 9, StopSignal(), accelerator, what="x", evaluate_every=2, minutes=1e-9))
    assert [(step.number, step.is_last, step.evaluates) for step in found] == [
        (1, False, False),
        (2, True, False),
    ]
    assert "x is cut short by --minutes: 2 of 9 steps were done, the last 2 in 0.0 s" in caplog.text
    waited = steps(
        0, 9, StopSignal(), accelerator, what="x", minutes=1e-9, rests=lambda number: number % 4 == 0
    )
    assert [step.number for step in waited] == [1, 2, 3, 4]
    assert len(list(steps(0, 9, StopSignal(), accelerator, what="x", minutes=10.0))) == 9


@pytest.mark.parametrize("terminal", [False, True])
def test_the_log_says_how_long_it_takes_and_without_a_terminal_how_far_it_is(
    accelerator, caplog, monkeypatch, terminal: bool
) -> None:
    caplog.set_level("INFO")
    seconds = iter(range(0, 1000, 10))  # ten more at each look at the clock; a step has one
    monkeypatch.setattr("adcommon.training.steps.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: terminal, write=len, flush=list))
    for _ in steps(2, 13, StopSignal(), accelerator, what="x"):
        pass
    first = "x step 4 of 13, 10.00 s a step, about 2 min left"
    later = "x step 10 of 13, 10.00 s a step, about 30 s left"
    assert [line for line in caplog.messages if "left" in line] == ([first] if terminal else [first, later])


def test_a_limit_of_minutes_bounds_the_estimate(caplog, monkeypatch) -> None:
    caplog.set_level("INFO")
    seconds = iter([0.0, 20.0])
    monkeypatch.setattr("adcommon.training.steps.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    Progress("x", 0, 10000, minutes=1.0).say(1)
    assert "about 40 s left" in caplog.text


def steps_to(last: int, accelerator: Accelerator, **options) -> Iterator[Step]:
    return steps(0, last, StopSignal(), accelerator, what="x", **options)


def test_readings_keep_their_names_until_they_are_taken(accelerator) -> None:
    readings = Readings(accelerator, nn.Linear(1, 1))
    one, two, three = steps_to(3, accelerator)
    assert not one.is_due
    readings.add(loss=torch.tensor(0.5), rate=2.0)
    readings.add(loss=torch.tensor(0.25), rate=3.0)
    assert readings.take(two) == [{"loss": 0.5, "rate": 2.0}, {"loss": 0.25, "rate": 3.0}]
    readings.add(loss=torch.tensor(1.0), rate=4.0)
    assert len(readings.take(three)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_no_number_ends_the_training(accelerator, value: float) -> None:
    readings = Readings(accelerator, nn.Linear(1, 1))
    for loss in (0.5, value, math.nan, 0.5):
        readings.add(loss=torch.tensor(loss), rate=0.1)
    *_, last = steps_to(7, accelerator)
    with pytest.raises(Diverged, match=rf"loss is {value} at step 5.*\n.*learning rate"):
        readings.take(last)


def test_a_gradient_that_overflows_is_the_scalers_business(accelerator) -> None:
    readings = Readings(accelerator, nn.Linear(1, 1))
    readings.add(loss=torch.tensor(0.5), gradient_norm=torch.tensor(math.inf))
    (only,) = steps_to(1, accelerator)
    assert readings.take(only)[0]["gradient_norm"] == math.inf


@pytest.mark.parametrize(
    "options", [{"save_every": 1}, {"evaluate_every": 1}, {"ends_epoch": lambda _: True}]
)
def test_weights_that_are_no_numbers_are_never_kept(accelerator, options: dict) -> None:
    learning = nn.Linear(2, 2)
    learning.weight.data[0, 0] = math.nan
    first = next(steps_to(9, accelerator, **options))
    assert first.keeps
    with pytest.raises(Diverged, match="a weight is nan at step 1"):
        refuse_diverged([{"loss": 0.5}], first, learning, accelerator)
    learning.weight.requires_grad_(False)  # masks and the like may hold infinities
    refuse_diverged([{"loss": 0.5}], first, learning, accelerator)
