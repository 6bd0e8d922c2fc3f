"""Killed at any moment of training, saving, evaluating, predicting, watching, all ends as if it never was."""

import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from trainings import FEW_SHOT, FLOOR, PREDICTS, TRAININGS

from adcommon.deploy.watch.arrivals import digest
from adcommon.deploy.watch.log import open_log
from adcommon.testing.commands import call, succeed
from adcommon.testing.processes import KilledAtChange, Started
from adcommon.testing.runs import assert_same_bits
from adcommon.testing.trees import make_folder, make_mvtec

MOMENTS = 20


def moments(changes: int, seed: str) -> list[int]:
    """Which changes of the disk to be killed at: the first, the last, and others between."""
    between = random.Random(seed).sample(range(2, changes), min(MOMENTS, changes) - 2)
    return sorted({1, changes, *between})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_mvtec(root / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=12)
    make_mvtec(root / "VisA_pytorch" / "1cls", categories=("candle",), train=6, seed=3)
    return root


def changes_of(command: str, words: Sequence[str | Path], out: Path) -> int:
    """How often a command changes the disk in its folder, when nobody stops it."""
    counted = out.with_name("changes")
    done = Started(command, *words, "--out", out, before=KilledAtChange(out, -1, counted)).wait()
    assert done.returncode == 0, done.stderr
    return int(counted.read_text())


def killed(command: str, words: Sequence[str | Path], out: Path, change: int) -> None:
    done = Started(command, *words, "--out", out, before=KilledAtChange(out, change)).wait()
    assert done.returncode == -signal.SIGKILL, (change, done.stderr)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", [*TRAININGS, *FLOOR])
def test_a_training_killed_at_any_moment_ends_in_the_same_bits(
    command: str, data: Path, tmp_path: Path
) -> None:
    flags = (TRAININGS | FLOOR)[command].split()
    words = [*flags, "--data-root", data, "--device", "cpu", "--save-every", "2"]
    if command in (*PREDICTS, *FLOOR):
        words.append("--maps")
    total = changes_of(command, words, tmp_path / "whole")
    for change in moments(total, command):
        out = tmp_path / f"killed-{change}"
        killed(command, words, out, change)
        killed_again = random.Random(f"{command} {change}").randint(1, total)
        Started(command, *words, "--out", out, "--resume", before=KilledAtChange(out, killed_again)).wait()
        succeed(command, *words, "--out", out, "--resume")
        names = ["model.safetensors"] if command in FLOOR else ["metrics.csv", "model.safetensors"]
        assert_same_bits(tmp_path / "whole", out, names)
        files = [{str(path.relative_to(run)) for path in run.rglob("*")} for run in (tmp_path / "whole", out)]
        assert files[0] == files[1], change


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", PREDICTS)
def test_a_prediction_and_an_evaluation_killed_at_any_moment_end_in_the_same_rows(
    command: str, data: Path, tmp_path: Path
) -> None:
    succeed(
        command,
        *TRAININGS[command].split(),
        "--data-root",
        data,
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
    )
    (model,) = {path.parent for path in (tmp_path / "run").rglob("model/config.json")}
    images = data / "mvtec_anomaly_detection" / "bottle" / "test"
    references = ["--references", data / "VisA_pytorch/1cls/candle/train/good"] if command in FEW_SHOT else []
    words = ["predict", images, "--model", model, *references, "--device", "cpu", "--batch-size", "2"]
    total = changes_of("ad", words, tmp_path / "whole")
    for change in moments(total, command):
        out = tmp_path / f"killed-{change}"
        killed("ad", words, out, change)
        succeed("ad", *words, "--out", out, "--resume")
        for path in (tmp_path / "whole").rglob("*"):
            other = out / path.relative_to(tmp_path / "whole")
            assert other.exists(), (change, other)
            if path.is_file():
                assert other.read_bytes() == path.read_bytes(), (change, other)

    evaluation = ["evaluate", "--model", model, "--data-root", data, "--device", "cpu", "--maps"]
    total = changes_of("ad", evaluation, tmp_path / "evaluated")
    rows = (tmp_path / "evaluated" / "results.json").read_text()
    for change in moments(total, command):
        out = tmp_path / f"evaluated-{change}"
        killed("ad", evaluation, out, change)
        done = call("ad", *evaluation, "--out", out, "--force")
        assert done.returncode == 0, (change, done.stderr)
        again = (out / "results.json").read_text()
        assert _without_seconds(again) == _without_seconds(rows), change


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "sqlite"])
def test_a_watch_killed_again_and_again_judges_every_image_once(
    suffix: str, data: Path, tmp_path: Path
) -> None:
    """Killed at drawn changes of the disk, and from outside, while images arrive."""
    place = ("--data-root", data, "--device", "cpu", "--out", tmp_path / "run")
    succeed("padim-train", *FLOOR["padim-train"].split(), "--dataset", "mvtec", *place)
    source = make_folder(tmp_path / "source", good=30, seed=5, defects=("bad",))
    draw = random.Random(suffix)
    for attempt in range(MOMENTS // 4):
        root = tmp_path / f"{attempt}"
        line = root / "line"
        arriving = [(path, line / f"{number}.png") for number, path in enumerate(source.rglob("*.png"))]
        draw.shuffle(arriving)
        images = sorted((str(place), digest(path)) for path, place in arriving)
        line.mkdir(parents=True)
        model = tmp_path / "run" / "bottle" / "model"
        log = root / "out" / f"log.{suffix}"
        words = ["watch", line, "--model", model, "--out", root / "out", "--log", log, "--interval", "0.02"]
        words += ["--move-to", root / "done", "--threshold", "0", "--device", "cpu", "--batch-size", "3"]
        while arriving:
            at = KilledAtChange(root, draw.randint(1, 100))
            watch = Started("ad", *words, before=at if draw.random() < 0.5 else None)
            until = time.monotonic() + draw.uniform(0.5, 4)
            while time.monotonic() < until:
                if arriving and draw.random() < 0.3:
                    shutil.copy(*arriving.pop())
                time.sleep(0.02)
            watch.kill()
        assert call("ad", *words, "--once").returncode == 0
        assert sorted((entry.path, entry.digest) for entry in open_log(log).entries()) == images
        moved = list((root / "done" / "anomalous").rglob("*.png"))
        assert sorted((path.name, digest(path)) for path in moved) == sorted(
            (Path(path).name, content) for path, content in images
        )
        left = {
            path.name
            for path in root.rglob("*")
            if path.is_file() and path.suffix not in (".png", ".webp", ".jpg")
        }
        assert left == {".adcommon", log.name}


def _without_seconds(text: str) -> list[str]:
    return [line for line in text.splitlines() if '"seconds"' not in line]
