from pathlib import Path

import pytest

from adcommon.errors import Stopped
from adcommon.testing.runs import StopsAfter, assert_same_bits, stopped_and_resumed
from adcommon.training.run import Run
from adcommon.training.stop import StopSignal


class Training:
    """Writes its steps and, as the model, what it knows: with a fault it forgets it between its parts."""

    def __init__(self, forgets: bool) -> None:
        self.forgets = forgets

    def __call__(self, run: Run, resume: bool, stop: StopSignal) -> None:
        first, known = 0, ""
        if resume:
            first = int(run.state.read_text())
            known = "" if self.forgets else "x" * first
            run.rewind(first)
        for step in range(first + 1, 5):
            known += "x"
            run.log(step, {"loss": 1 / step})
            if stop.requested:
                run.state.parent.mkdir()
                run.state.write_text(str(step))
                raise Stopped(f"stopped after step {step}; run the same command with --resume to go on")
        run.model.mkdir()
        (run.model / "model.safetensors").write_text(known)


def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole, parts = stopped_and_resumed(Training(forgets=False), tmp_path, questions=3, step=3)
    assert whole.metrics.read_text() == parts.metrics.read_text()
    assert not whole.state.exists()
    assert parts.state.read_text() == "3"


def test_a_training_that_forgets_or_stops_elsewhere_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"model/model\.safetensors"):
        stopped_and_resumed(Training(forgets=True), tmp_path / "a", questions=3, step=3)
    with pytest.raises(AssertionError, match="after step 2"):
        stopped_and_resumed(Training(forgets=False), tmp_path / "b", questions=3, step=2)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        stopped_and_resumed(Training(forgets=False), tmp_path / "c", questions=9, step=3)


def test_a_question_is_answered_no_until_the_nth() -> None:
    stop = StopsAfter(3)
    assert [stop.requested for _ in range(4)] == [False, False, True, True]


def test_folders_are_the_same_only_with_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "metrics.csv").write_text("step\n")
    with pytest.raises(AssertionError, match="not trained"):
        assert_same_bits(tmp_path / "a", tmp_path / "b")  # nothing was trained
    for name in ("a", "b"):
        (tmp_path / name / "model" / "model.safetensors").write_bytes(b"1")
    assert_same_bits(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "model-best").mkdir()
    (tmp_path / "b" / "model-best" / "model.safetensors").write_bytes(b"1")
    with pytest.raises(AssertionError, match="model-best"):
        assert_same_bits(tmp_path / "a", tmp_path / "b")
