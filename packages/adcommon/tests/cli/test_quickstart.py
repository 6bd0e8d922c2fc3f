from pathlib import Path
from typing import Any

import pytest

from adcommon.cli import quickstart as module
from adcommon.cli.quickstart import quickstart
from adcommon.errors import UnknownName, UserError
from adcommon.results.rows import read_results, row, write_results
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation


def fake(name: str, image_auroc: float):
    def start(out: Path, *, force: bool = False) -> None:
        evaluation = Evaluation(
            category="mono",
            normal=1,
            anomalous=1,
            image_auroc=image_auroc,
            image_ap=0.5,
            image_f1max=0.5,
            image_threshold=0.5,
        )
        facts = {"dataset": "elpv", "setting": "one-class", "backbone": "b", "weights": "pretrained"}
        write_results(out, [row(evaluation, Facts(method=name, seed=0, **facts), seconds=1.0)])

    return start


def run(*methods: str, out: Path) -> list[dict[str, Any]]:
    quickstart(*methods, out=out)
    return read_results(out)


def test_every_method_runs_and_one_table_remains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = {"first": fake("first", 0.9), "second": fake("second", 0.8)}
    monkeypatch.setattr(module, "installed", lambda group: starts)
    monkeypatch.setattr(module, "find", lambda name, group: starts[name])
    rows = run(out=tmp_path)
    assert [(entry["method"], entry["image_auroc"]) for entry in rows] == [("first", 0.9), ("second", 0.8)]
    assert "90.00" in capsys.readouterr().out
    assert len(run("second", out=tmp_path / "one")) == 1


def test_what_trains_nothing_runs_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    starts = {name: fake(name, 0.9) for name in ("alpha", "beta", "gamma")}
    floor = {"beta": starts["beta"]}
    monkeypatch.setattr(module, "installed", lambda group: floor if group == module.FLOOR else starts)
    monkeypatch.setattr(module, "find", lambda name, group: starts[name])
    assert [entry["method"] for entry in run(out=tmp_path)] == ["beta", "alpha", "gamma"]


def test_an_unknown_method_is_named_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="recontrast"):
        quickstart("recontrst", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_method_at_all_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "installed", lambda group: {})
    with pytest.raises(UserError, match="install"):
        quickstart(out=tmp_path)
