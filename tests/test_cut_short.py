"""A training that has no more time ends as a whole one does: with a model, its numbers, and a word of it."""

from pathlib import Path

import pytest
from trainings import FEW_SHOT, PREDICTS, TRAININGS

from adcommon.testing.commands import read_rows, succeed
from adcommon.testing.trees import make_mvtec
from adcommon.training.steps import CUT_SHORT


@pytest.mark.parametrize("command", PREDICTS)
def test_a_training_without_time_leaves_a_model(command: str, tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=12)
    if command in FEW_SHOT:
        make_mvtec(tmp_path / "VisA_pytorch" / "1cls", categories=("candle",), train=6, seed=3)
    words = [*TRAININGS[command].split(), "--data-root", tmp_path, "--device", "cpu", "--minutes", "1e-6"]
    out = tmp_path / "run"
    succeed(command, *words, "--out", out)
    assert read_rows(out)
    assert len(list(out.glob("*/model/config.json"))) == 1
    assert CUT_SHORT in (out / "log.txt").read_text()
