import pytest
import torch
from accelerate import Accelerator

from adcommon.errors import Stopped
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_what_is_due_is_due_at_its_multiples_and_readings_wherever_anything_is(accelerator) -> None:
    found = list(
        steps(2, 12, StopSignal(), accelerator, what="x", save_every=5, evaluate_every=4, log_every=6)
    )
    assert [step.number for step in found] == list(range(3, 13))
    assert [step.number for step in found if step.saves] == [5, 10]
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


def test_where_no_state_can_be_saved_states_and_stops_wait(accelerator) -> None:
    saved: list[int] = []
    with pytest.raises(Stopped, match="after step 7"):
        saved_until_stopped(accelerator, 5, saved, save_every=2, rests=lambda number: number % 3 == 1)
    assert saved == [4, 7]


def test_readings_keep_their_names_until_they_are_taken(accelerator) -> None:
    readings = Readings(accelerator)
    readings.add(loss=torch.tensor(0.5), rate=2.0)
    readings.add(loss=torch.tensor(0.25), rate=3.0)
    assert readings.take() == [{"loss": 0.5, "rate": 2.0}, {"loss": 0.25, "rate": 3.0}]
    readings.add(loss=torch.tensor(1.0), rate=4.0)
    assert len(readings.take()) == 1
