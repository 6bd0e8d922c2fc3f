import json
import sys
from pathlib import Path

import pytest

from adcommon.testing.commands import call, read_rows, read_table, refused, succeed


def test_a_command_runs_here_and_leaves_the_command_line_as_it_was(tmp_path: Path) -> None:
    before = sys.argv
    done = call("ad", "datasets")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mvtec" in done.stdout
    failed = call("ad", "report", tmp_path)
    assert failed.returncode == 2
    assert str(tmp_path) in failed.stderr
    assert sys.argv is before
    with pytest.raises(KeyError, match="ad-nothing"):
        call("ad-nothing")


def test_success_and_refusal_are_what_was_expected_or_an_error(tmp_path: Path) -> None:
    assert "mvtec" in succeed("ad", "datasets").stdout
    assert str(tmp_path) in refused("ad", "report", tmp_path)
    with pytest.raises(AssertionError, match=f"ad ended with 2(.|\n)*{tmp_path}"):
        succeed("ad", "report", tmp_path)
    with pytest.raises(AssertionError, match=r"ad ended with 0(.|\n)*mvtec"):
        refused("ad", "datasets")


def test_results_are_read_without_what_differs_between_equal_runs(tmp_path: Path) -> None:
    facts = {"method": "m", "dataset": "d", "category": "wood", "protocol": "standard", "image_auroc": 0.5}
    (tmp_path / "results.json").write_text(json.dumps([facts | {"seconds": 3.0}]))
    assert read_rows(tmp_path) == [facts]
    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5\n2,\n")
    rows = read_table(tmp_path / "metrics.csv")
    assert rows == [{"step": "1", "loss": "0.5"}, {"step": "2", "loss": ""}]
