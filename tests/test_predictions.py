"""`predict`, `evaluate` and `watch` as processes: exit codes, signals, locks, and what is left behind."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcommon.deploy.watch.arrivals import digest
from adcommon.testing.commands import Done, call, read_rows, read_table, refused, succeed
from adcommon.testing.processes import KilledAtChange, SignalWhenSaving, Started
from adcommon.testing.surroundings import contents, untouched
from adcommon.testing.trees import make_mvtec

SMALL = [
    *("--backbone", "test_efficientnet", "--weights", "random", "--image-size", "64", "--batch-size", "4"),
    *("--iterations", "2", "--device", "cpu", "--calibration-share", "0.2", "--false-alarm-rate", "0.05"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle",), train=12)
    place = ("--dataset", "mvtec", "--data-root", folder, "--category", "bottle", "--out", folder / "run")
    succeed("recontrast-train", *place, *SMALL)
    return folder


@pytest.fixture(scope="module")
def model(trained: Path) -> Path:
    """One that knows no kind, so that noise may be normal."""
    folder = shutil.copytree(trained / "run" / "bottle" / "model", trained / "open")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"kinds": []}, indent=2))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for number in range(9):
        path = folder / f"lot{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    return folder


def predict(photos: Path, model: Path, *words: str | Path) -> Done:
    return call("ad", "predict", photos, "--model", model, "--device", "cpu", "--batch-size", "2", *words)


def files_of(out: Path) -> dict[str, object]:
    return {path.relative_to(out).as_posix(): held for path, held in contents(out).items()}


@pytest.mark.parametrize(
    ("broken", "words", "code"),
    [
        ("none", ["--threshold", "1e9"], 0),
        ("none", ["--threshold", "1e9", "--fail-on-anomaly"], 0),
        ("none", ["--threshold", "0"], 0),
        ("none", ["--threshold", "0", "--fail-on-anomaly"], 3),
        ("one", ["--threshold", "0"], 1),
        ("one", ["--threshold", "0", "--fail-on-anomaly"], 1),
        ("all", ["--threshold", "0"], 1),
    ],
)
def test_the_exit_code_tells_what_came_out(
    photos: Path, model: Path, tmp_path: Path, broken: str, words: list[str], code: int
) -> None:
    images = sorted(photos.rglob("*.png"))
    for path in {"none": [], "one": images[:1], "all": images}[broken]:
        path.write_text("broken")
    done = predict(photos, model, "--out", tmp_path / "out", *words)
    assert done.returncode == code, done.stderr
    assert len(read_table(tmp_path / "out" / "predictions.csv")) == 9


@pytest.mark.parametrize(
    "words",
    [
        ["--batch-size", "0"],
        ["--threshold", "nan"],
        ["--threshold", "inf"],
        ["--workers", "-1"],
        ["--resume", "--force"],
        ["--references", "nowhere"],
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    photos: Path, model: Path, tmp_path: Path, words: list[str]
) -> None:
    with untouched(tmp_path):
        refused("ad", "predict", photos, "--model", model, "--out", tmp_path / "a" / "b", *words)


def test_a_model_without_a_threshold_cannot_fail_on_an_anomaly(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(model, tmp_path / "bare")
    text = (bare / "config.json").read_text()
    start, end = text.index('"threshold": {'), text.index("}", text.index('"threshold": {')) + 1
    (bare / "config.json").write_text(text[:start] + '"threshold": null' + text[end:])
    words = ("ad", "predict", photos, "--model", bare, "--out", tmp_path / "out", "--device", "cpu")
    assert "--fail-on-anomaly needs a threshold" in refused(*words, "--fail-on-anomaly")
    assert "score normal images, and give --threshold" in succeed(*words).stdout


def test_images_of_another_kind_fail_like_anomalies(photos: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--out", out, "--threshold", "1e9", "--fail-on-anomaly")
    assert predict(photos, trained / "run" / "bottle" / "model", *words).returncode == 3
    assert {row["decision"] for row in read_table(out / "predictions.csv")} == {"unfamiliar"}


def test_an_unsupported_threshold_decides_nothing(photos: Path, model: Path, tmp_path: Path) -> None:
    shown = predict(photos, model, "--out", tmp_path / "a").stdout
    assert "scores rank images, and decide nothing: a false-alarm rate of 0.05 needs 19" in shown
    assert {row["decision"] for row in read_table(tmp_path / "a" / "predictions.csv")} == {"unknown"}
    assert f"look at {tmp_path / 'a' / 'maps' / 'index.html'}" in shown
    assert "decide nothing" not in predict(photos, model, "--out", tmp_path / "b", "--threshold", "1").stdout


@pytest.mark.parametrize(
    ("number", "picture", "code"),
    [
        (signal.SIGTERM, "lot0/0.png.jpg", 143),
        (signal.SIGINT, "lot0/8.png.jpg", 130),
        (signal.SIGKILL, "lot0/0.png.jpg", -9),
        (signal.SIGKILL, "lot1/3.png.jpg", -9),
        (signal.SIGKILL, "index.html", -9),
    ],
)
def test_a_stopped_prediction_ends_as_if_it_never_was(
    photos: Path, model: Path, tmp_path: Path, number: signal.Signals, picture: str, code: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    words = ["predict", photos, "--model", model, "--device", "cpu", "--batch-size", "2", "--out"]
    succeed("ad", *words, whole)
    at = SignalWhenSaving(out / "maps" / picture, number)
    done = Started("ad", *words, out, before=at).wait()
    assert done.returncode == code, done.stderr
    rows = read_table(out / "predictions.csv")
    assert rows == read_table(whole / "predictions.csv")[: len(rows)]
    if code > 0:
        assert "Traceback" not in done.stderr
        assert "look at" in done.stdout
        drawn = list((out / "maps").glob("lot*/*.jpg"))
        assert (out / "maps" / "index.html").read_text().count('"picture"') == len(drawn) == len(rows)
    assert "--resume" in refused("ad", *words, out)
    succeed("ad", *words, out, "--resume")
    assert files_of(out) == files_of(whole)


def test_two_processes_do_not_write_one_folder(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["predict", photos, "--model", model, "--device", "cpu", "--out", out]
    at = SignalWhenSaving(out / "maps" / "lot0" / "0.png.jpg", signal.SIGSTOP)
    first = Started("ad", *words, before=at)
    while not (out / "predictions.csv").exists():
        time.sleep(0.05)
    for flag in ("--resume", "--force"):
        assert f"another process, number {first.pid}" in refused("ad", *words, flag)
    first.kill()
    succeed("ad", *words, "--resume")


def test_an_evaluation_is_never_mixed_with_another(trained: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["evaluate", "--model", model, "--data-root", trained, "--device", "cpu", "--out", out]
    succeed("ad", *words, "--maps")
    before = read_rows(out)
    (out / "maps" / "old.png").touch()
    with untouched(out):
        assert "--force" in refused("ad", *words)
    succeed("ad", *words, "--force")
    assert read_rows(out) == before
    assert not (out / "maps").exists()
    foreign = tmp_path / "foreign"
    (foreign / "maps").mkdir(parents=True)
    (foreign / "maps" / "mine.png").touch()
    with untouched(tmp_path):
        refused("ad", *words[:-1], foreign, "--force")
        refused("ad", *words[:-1], tmp_path / "new", "--category", "nothing")


def test_the_page_is_opened_where_that_is_asked_for(
    photos: Path, model: Path, tmp_path: Path, monkeypatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    succeed("ad", "predict", photos, "--model", model, "--device", "cpu", "--out", tmp_path / "a")
    assert opened == []
    succeed("ad", "predict", photos, "--model", model, "--device", "cpu", "--out", tmp_path / "b", "--open")
    assert opened == [(tmp_path / "b" / "maps" / "index.html").as_uri()]


def watching(photos: Path, model: Path) -> list[str | Path]:
    """A watch that calls every image anomalous."""
    out, done = photos.parent / "out", photos.parent / "done"
    return [
        *("watch", photos, "--model", model, "--out", out, "--move-to", done, "--threshold", "0"),
        *("--interval", "0.02", "--device", "cpu"),
    ]


def lines(log: Path) -> list[tuple[str, str]]:
    """Path and digest of each line."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return sorted((line["path"], line["digest"]) for line in map(json.loads, text.splitlines()))


def test_a_watch_that_is_killed_loses_no_image_and_writes_none_twice(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    images = sorted((str(path), digest(path)) for path in photos.rglob("*.png"))
    killed = Started("ad", *watching(photos, model), "--once", before=KilledAtChange(tmp_path, 45)).wait()
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 0 < len(lines(tmp_path / "out" / "log.jsonl")) < 9
    again = call("ad", *watching(photos, model), "--once")
    assert again.returncode == 0
    assert lines(tmp_path / "out" / "log.jsonl") == images
    moved = (tmp_path / "done" / "anomalous").rglob("*.png")
    assert sorted(map(digest, moved)) == sorted(content for _, content in images)
    assert not list(photos.rglob("*.*"))


def test_a_watch_goes_on_until_it_is_stopped_in_good_order(photos: Path, model: Path, tmp_path: Path) -> None:
    log = tmp_path / "out" / "log.jsonl"
    watched = Started("ad", *watching(photos, model), "--on-anomaly", "false")
    for wanted in (9, 10):
        until = time.monotonic() + 60
        while len(lines(log)) < wanted:
            assert time.monotonic() < until
            time.sleep(0.05)
        if wanted == 9:
            assert f"number {watched.pid}" in refused("ad", *watching(photos, model))
            shutil.copy(tmp_path / "done" / "anomalous" / "lot0" / "0.png", photos / "late.png")
    os.kill(watched.pid, signal.SIGTERM)
    done = watched.wait()
    assert (done.returncode, "Traceback" in done.stderr) == (143, False), done.stderr
    assert "10 images: 10 anomalous" in done.stdout
    assert done.stderr.count("--on-anomaly failed") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--on-anomaly", "no-such-program {}"], "expected a program that can be run"),
        (["--on-anomaly", "echo 'x"], "No closing quotation"),
        (["--log", "log.txt"], "expected a file whose name ends in .jsonl, .csv or .sqlite"),
        (["--interval", "0"], "--interval is 0; expected"),
        (["--move-to", "."], "holds the watched folder"),
    ],
)
def test_a_watch_that_cannot_work_is_refused(
    photos: Path, model: Path, tmp_path: Path, flags: list[str], message: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with untouched(tmp_path):
        assert message in refused("ad", "watch", photos, "--model", model, *flags)
