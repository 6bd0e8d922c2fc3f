import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adcommon.cli import reproduce as module
from adcommon.cli.reproduce import reproduce
from adcommon.errors import BadValue, DatasetNotFound, UnknownName, UserError
from adcommon.results.paper import PaperTable
from adcommon.testing.trees import make_mvtec

TRAINING = """#!{python}
import json, sys
from pathlib import Path

flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = Path(flags["--out"])
if flags["--category"] == flags.get("--unlucky"):
    sys.exit("error: no weights\\n  Get them there")
with (out / "calls.txt").open("a") as calls:
    calls.write("x")
said = "12 device cpu processes 1\\n"
if "--minutes" in flags:
    said += "12 warning: m is cut short by --minutes: 10 of 610 steps were done, the last 10 in 20.0 s\\n"
(out / "log.txt").write_text(said)
model = out / flags["--category"] / "model"
model.mkdir(parents=True)
config = dict(format_version=1, method="m", recipe=dict(lr=1), versions={{}})
(model / "config.json").write_text(json.dumps(config))
row = dict(method="m", dataset="mvtec", category=flags["--category"], protocol="standard", selection="last")
row |= dict(seed=int(flags["--seed"]), image_auroc=0.5, setting="s", backbone="b", weights="w", seconds=80)
(out / "results.json").write_text(json.dumps([row]))
"""
TABLE = PaperTable(
    title="MVTec AD",
    command="a-train",
    each={"category": ("bottle", "cable")},
    seed=7,
    data={"mvtec": ("bottle", "cable")},
    protocol="standard",
    metrics=("image_auroc",),
    numbers={("mvtec", None): {"mean": {"image_auroc": 0.9}}},
)


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A method `m` with two tables, whose command is done at once; the folder of what it leaves."""
    script = tmp_path / "a-train"
    script.write_text(TRAINING.format(python=sys.executable))
    script.chmod(0o755)
    tables = {"own": TABLE, "all": replace(TABLE, each={}, numbers={})}
    monkeypatch.setattr(module, "find_command", lambda command: str(script))
    monkeypatch.setattr(module, "installed", lambda group: {"m": SimpleNamespace(load=lambda: tables)})
    make_mvtec(tmp_path / "data" / "mvtec_anomaly_detection", categories=("bottle", "cable"))
    return tmp_path / "out" / "m"


def run(paper: Path, *arguments: str, **flags: Any) -> None:
    root = {"data_root": paper.parent.parent / "data", "out": paper.parent}
    reproduce("m", *arguments, **{"table": ("own",), **root, **flags})


def calls(paper: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in paper.rglob("calls.txt")}


def test_time_and_disk_are_estimated_before_and_ours_stand_beside_the_papers(
    paper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(paper)
    said = capsys.readouterr().out
    # 80 s of all, and 600 of 610 steps at 2 s
    assert "2 trainings of about 21.3 minutes (measured: 10 of 610 steps in 20 s, 60 s besides)" in said
    assert "estimate: 42.7 minutes" in said
    assert said.index("estimate:") < said.index("-40.00")
    assert calls(paper) == {"category=bottle,seed=7": "x", "category=cable,seed=7": "x"}
    kept = json.loads((paper / "reproduced.json").read_text())["tables"][0]
    assert kept["recipe"] == {"lr": 1}
    assert kept["device"] == "cpu processes 1"
    assert [one["difference"] for one in kept["numbers"]] == [None, None, pytest.approx(-0.4)]
    run(paper, seeds=(7, 8))
    assert calls(paper)["category=bottle,seed=7"] == "x"
    assert "| mean | 2 | 50.00 ± 0.00 | 90.00 | -40.00 |" in (paper / "reproduced.md").read_text()


def test_nothing_is_begun_where_the_first_training_of_a_table_is_refused(paper: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 1 runs failed(.|\n)*no weights\n +Get them there"):
        run(paper, "--unlucky", "bottle")
    assert calls(paper) == {}


def test_a_failed_training_leaves_the_others_and_their_table(paper: Path) -> None:
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        run(paper, "--unlucky", "cable")
    text = (paper / "reproduced.md").read_text()
    assert "1 of 2 trainings ended well." in text
    assert "Not the paper's recipe: with --unlucky cable" in text
    assert "Rows of protocol standard, selection last." in text


def test_flags_that_change_no_number_leave_the_papers_recipe(paper: Path) -> None:
    run(paper, "--gpu", "0", "--workers", "4")
    text = (paper / "reproduced.md").read_text()
    assert "Made with --gpu 0 --workers 4" in text
    assert "Not the paper's recipe" not in text


def test_a_dry_run_says_what_would_be_trained(paper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(paper, dry_run=True, category=("cable",))
    said = capsys.readouterr().out
    assert "own: MVTec AD\n  1 training: a-train --data-root" in said
    assert "the data is there; nothing was trained" in said
    assert not paper.exists()


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ({"table": ("owm",)}, UnknownName, "did you mean 'own'"),
        ({"category": ("botle",)}, UnknownName, "did you mean 'bottle'"),
        ({"table": ("all",), "category": ("bottle",)}, BadValue, "one training for all"),
        ({"data_root": Path("nowhere")}, DatasetNotFound, r"(?s)Official page.*ad check mvtec"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    paper: Path, flags: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(paper, **flags)
    assert not paper.exists()


def test_without_a_paper_all_tables_are_listed(paper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce()
    assert "all                MVTec AD; the paper's numbers are not in our notes" in capsys.readouterr().out
