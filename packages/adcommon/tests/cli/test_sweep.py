import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adcommon.cli import sweep as module
from adcommon.cli.sweep import plan, sweep
from adcommon.errors import BadValue, UnknownName, UserError
from adcommon.results.rows import read_results
from adcommon.training.launch import Launch

TRAINING = """#!{python}
import json, signal, sys, time
from pathlib import Path

flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = Path(flags["--out"])
with (out / "calls.txt").open("a") as calls:
    calls.write("x")
print("says", flags)
if flags["--seed"] == "13":
    sys.exit("error: unlucky")
if flags["--seed"] == "99":
    signal.signal(signal.SIGTERM, lambda *_: ((out / "saved").touch(), sys.exit(143)))
    (out / "waiting").touch()
    time.sleep(60)
facts = dict(method="m", dataset="d", category="a", protocol="standard", seed=int(flags["--seed"]))
(out / "results.json").write_text(json.dumps([facts | dict(image_auroc=float(flags["--lr"]), setting="s",
                                                          backbone="b", weights="w", seconds=1)]))
"""
VALUES = ("lr=0.25,0.75", "seed=0,1")


def run(out: Path, *vary: str, jobs: int = 1) -> list[dict[str, Any]]:
    sweep("a-train", vary=vary, out=out, launch=Launch(jobs=jobs))
    return read_results(out)


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command that takes its numbers from its flags."""
    script = tmp_path / "a-train"
    script.write_text(TRAINING.format(python=sys.executable))
    script.chmod(0o755)
    monkeypatch.setattr(module, "find_command", lambda command: str(script))
    return tmp_path / "sweep"


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_combination_is_run_once_and_its_rows_say_which_it_was(training: Path, jobs: int) -> None:
    rows = run(training, *VALUES, jobs=jobs)
    assert [(row["varied"], row["seed"], row["image_auroc"]) for row in rows] == [
        ("lr=0.25", 0, 0.25),
        ("lr=0.25", 1, 0.25),
        ("lr=0.75", 0, 0.75),
        ("lr=0.75", 1, 0.75),
    ]
    assert "lr=0.75" in (training / "spread.csv").read_text()
    assert "| a | lr=0.75 | 2 | 75.00 ± 0.00 |" in (training / "spread.md").read_text()
    assert "says" in (training / "lr=0.25,seed=0" / "command.log").read_text()


def test_finished_runs_are_not_run_again(training: Path) -> None:
    run(training, "lr=0.25", "seed=0")
    rows = run(training, *VALUES)
    assert len(rows) == 4
    assert {path.read_text() for path in training.glob("*/calls.txt")} == {"x"}


def test_a_failing_run_leaves_the_others_alone_and_is_tried_again(training: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 2 runs failed(.|\n)*unlucky"):
        sweep("a-train", seeds=(13, 1), vary=("lr=0.25",), out=training)
    assert len(read_results(training)) == 1
    with pytest.raises(UserError):
        sweep("a-train", seeds=(13, 1), vary=("lr=0.25",), out=training)
    calls = {path.parent.name: path.read_text() for path in training.glob("*/calls.txt")}
    assert calls == {"lr=0.25,seed=13": "xx", "lr=0.25,seed=1": "x"}


def test_a_signal_reaches_the_runs_and_the_sweep_waits_for_them(training: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from adcommon.cli import sweep\n"
        f"sweep.find_command = lambda command: {str(training.parent / 'a-train')!r}\n"
        f"sweep.sweep('a-train', vary=('lr=1', 'seed=99,0'), out=Path({str(training)!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    run = training / "lr=1,seed=99"
    while not (run / "waiting").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert "Stopped" in process.communicate(timeout=30)[1]
    assert (run / "saved").exists()
    assert not (training / "lr=1,seed=0").exists()


@pytest.mark.parametrize(
    ("arguments", "vary", "message"),
    [
        (["--out", "x"], {"seed": ["0"]}, "--out is set by the sweep"),
        (["--seed=1"], {"seed": ["0"]}, "--seed=1 is set by the sweep"),
        ([], {"seed": ["0", "0"]}, "each once"),
        ([], {"seed": [""]}, "--vary lr=0.1,0.2"),
        ([], {"weights": ["a/b.pth"]}, "cannot be the name of a folder"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(
    arguments: list[str], vary: dict[str, list[str]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadValue, match=message):
        plan("a-train", arguments, vary, tmp_path)


def test_a_device_for_all_is_refused_beside_one_for_each(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="leave out --gpu and --device"):
        sweep("padim-train", "--gpu=0", seeds=(0, 1), out=tmp_path, launch=Launch(devices="0,1"))


def test_only_commands_of_methods_are_swept(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'uniad-train'"):
        sweep("uniad-trian", seeds=(0,), out=tmp_path)
