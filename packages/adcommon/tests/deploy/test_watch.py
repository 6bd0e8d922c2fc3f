"""Every image of a folder gets one line and one place, whatever happens to folder, disk or command."""

import json
import logging
import os
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcommon.cli.watch import command_words
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.model import Model
from adcommon.deploy.watch.arrivals import PATIENCE, SETTLED, Arrivals, Known, digest, signature
from adcommon.deploy.watch.log import open_log
from adcommon.deploy.watch.outcome import move, tell
from adcommon.deploy.watch.watch import watch
from adcommon.errors import BadValue, OutputExists
from adcommon.io.lock import locked
from adcommon.testing.surroundings import untouched
from adcommon.types.prediction import Prediction


def brightness(pixels: np.ndarray) -> Prediction:
    maps = pixels.mean(axis=3, dtype=np.float32) / 255
    return Prediction(maps.mean(axis=(1, 2)), maps)


def run(folder: Path, **flags: Any) -> Counter[str]:
    """Score what is there: an image above half of white is anomalous."""
    preprocess = Preprocess(image_size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = Model(brightness, preprocess, {"method": "brightness"}, threshold=0.5)
    out = folder.parent / "out"
    flags = {"log": out / "log.jsonl", "interval_s": 0.01, "once": True} | flags
    return watch(model, folder, out, **flags)


def save(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (grey, grey, grey)).save(path)
    return path


def lines(folder: Path) -> list[tuple[str, str]]:
    """Path and decision of each line."""
    read = [json.loads(line) for line in (folder.parent / "out" / "log.jsonl").read_text().splitlines()]
    return [(str(Path(line["path"]).relative_to(folder)), line["decision"]) for line in read]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "line" / "lot" / "dark.png", 10)
    save(tmp_path / "line" / "bright.png", 200)
    (tmp_path / "line" / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "line" / "notes.txt").touch()
    for order, path in enumerate(["lot/dark.png", "bright.png", "broken.png"]):
        os.utime(tmp_path / "line" / path, (order, order))
    return tmp_path / "line"


def test_each_image_has_one_line_oldest_first_and_anomalous_ones_a_picture(folder: Path) -> None:
    assert run(folder) == {"normal": 1, "anomalous": 1, "error": 1}
    said = [("lot/dark.png", "normal"), ("bright.png", "anomalous"), ("broken.png", "unknown")]
    assert lines(folder) == said
    (picture,) = files(folder.parent / "out" / "maps")
    assert picture == f"bright.png-{str(digest(folder / 'bright.png'))[:12]}.jpg"
    with untouched(folder.parent):
        assert run(folder) == {}


def test_a_path_with_another_content_is_another_image_and_a_touched_file_is_not(folder: Path) -> None:
    run(folder)
    os.utime(folder / "bright.png")
    os.utime(folder / "broken.png")
    shutil.copy(folder / "bright.png", folder / "renamed.png")
    stored = (folder / "lot" / "dark.png").stat()
    save(folder / "lot" / "dark.png", 201)
    assert (folder / "lot" / "dark.png").stat().st_size == stored.st_size
    assert run(folder) == {"anomalous": 2}
    assert sorted(lines(folder)[3:]) == [("lot/dark.png", "anomalous"), ("renamed.png", "anomalous")]


def test_images_are_sorted_once_they_have_a_line_and_nothing_there_is_overwritten(folder: Path) -> None:
    run(folder)  # these have a line before anybody asks for them to be moved
    save(folder / "late.png", 90)
    place = folder / "done"
    save(place / "anomalous" / "bright.png", 1)
    mine = (place / "anomalous" / "bright.png").read_bytes()
    content = digest(folder / "bright.png")
    assert run(folder, move_to=place) == {"normal": 1}
    assert files(place) == [
        f"anomalous/bright-{content}.png",
        "anomalous/bright.png",
        "error/broken.png",
        "normal/late.png",
        "normal/lot/dark.png",
    ]
    assert (place / "anomalous" / "bright.png").read_bytes() == mine
    assert digest(place / "anomalous" / f"bright-{content}.png") == content
    assert [path.name for path in folder.glob("*.*")] == ["notes.txt"]
    save(folder / "late.png", 91)
    assert run(folder, move_to=place) == {"normal": 1}
    assert len(files(place / "normal")) == 3


@pytest.mark.parametrize("links", [True, False])
def test_a_moving_that_was_cut_short_is_ended_and_an_image_that_changes_stays(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # as between two disks
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "another disk")))
    source, target = save(tmp_path / "a.png", 1), tmp_path / "normal" / "a.png"
    own = signature(source)
    assert own is not None
    known = Known(own, digest(source), "normal")
    shutil.copytree(tmp_path, tmp_path / "normal")
    move(source, target, known)  # the same content lies there
    assert (source.exists(), files(tmp_path / "normal")) == (False, ["a.png"])
    os.utime(save(source, 2), ns=(0, own[1] + 1))
    target.unlink()
    move(source, target, known)  # it is not the image that was judged
    assert (source.exists(), target.exists()) == (True, False)
    os.utime(save(source, 1), ns=(0, own[1]))
    move(source, target, known)
    assert (source.exists(), signature(target)) == (False, own)


def test_a_file_is_read_when_it_rests_and_again_before_it_is_called_broken(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 1)
    whole = path.read_bytes()
    arrivals = Arrivals(tmp_path, [], {})
    for end in range(10, 60, 10):
        path.write_bytes(whole[:end])
        assert arrivals.look() == ([], [])
    asked = [look for look in range(SETTLED, PATIENCE + 3) if arrivals.look()[0]]
    assert asked == [SETTLED, PATIENCE]
    path.write_bytes(whole)
    assert [bool(arrivals.look()[0]) for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize(("content", "found"), [("whole", {"normal": 1}), ("cut", {})])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, content: str, found: dict[str, int]
) -> None:
    path = save(tmp_path / "line" / "bright.png", 200)
    later = save(tmp_path / "later.png", 3).read_bytes()
    reads = []

    class Overwritten(Preprocess):
        def read_opened(self, whole: Any) -> Any:
            answer = super().read_opened(whole)
            if not reads:
                path.write_bytes(later if content == "whole" else b"")
            reads.append(whole)
            return answer

    model = Model(brightness, Overwritten(image_size=16), {"method": "brightness"}, threshold=0.5)
    out = tmp_path / "out"
    assert watch(model, path.parent, out, log=out / "log.jsonl", interval_s=0.01, once=True) == found


def ends_when(done: Callable[[], bool], steps: list[Callable[[], object]]) -> Callable[[], bool]:
    """A question whether to stop that takes a step at each look, by and by, and answers at the end."""
    until = time.monotonic() + 20

    def stop() -> bool:
        if steps:
            steps.pop(0)()
            return False
        return done() or time.monotonic() > until

    return stop


def test_a_folder_that_vanishes_is_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = folder.with_name("away")
    nothing = [lambda: None] * 12
    steps = [*nothing, lambda: folder.rename(away), *nothing, lambda: away.rename(folder)]
    with caplog.at_level(logging.INFO):
        counts = run(folder, once=False, stop=ends_when(lambda: len(lines(folder)) == 3, [*steps]))
    assert counts.total() == len(lines(folder)) == 3
    assert caplog.text.count("cannot look into the folder; waiting for it") == 1
    assert caplog.text.count("looking into the folder works again") == 1


@pytest.mark.parametrize(("suffix", "room"), [(".jsonl", 1500), (".csv", 900), (".sqlite", 100)])
def test_a_full_disk_is_said_once_and_waited_for(
    folder: Path, caplog: pytest.LogCaptureFixture, suffix: str, room: int
) -> None:
    log = folder.parent / "out" / f"log{suffix}"
    run(folder, log=log)
    for number in range(4):
        save(folder / f"{number}.png", 5)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    steps = [*[lambda: None] * 30, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, unlimited[1]))  # ends within a line
    try:
        with caplog.at_level(logging.INFO):
            stop = ends_when(lambda: len(list(open_log(log).entries())) == 7, [*steps])
            counts = run(folder, log=log, once=False, interval_s=0.005, stop=stop)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert counts == {"normal": 4}
    assert len({entry.path for entry in open_log(log).entries()}) == 7
    assert caplog.text.count("cannot write the log") == 1
    assert caplog.text.count("writing the log works again") == 1


def test_the_command_gets_path_and_line_and_no_name_is_run(folder: Path, tmp_path: Path) -> None:
    hostile = f"-rf; touch {tmp_path.name} $(touch b) `touch c`.png"
    (folder / "bright.png").rename(folder / hostile)
    told = tmp_path / "told"
    command = ["sh", "-c", f'printf "%s\\n" "$@" >> {told}; cat >> {told}', "{}", "{}", "x{}"]
    run(folder, on_anomaly=command)
    path, literal, line = told.read_text().splitlines()
    assert (path, literal) == (str(folder / hostile), "x{}")
    assert line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert not [path for path in Path.cwd().iterdir() if path.name in ("b", "c", tmp_path.name)]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sh", "-c", "sleep 60 & echo $! > child; wait"], "no end after 0.2 seconds"),
        (["false"], "exit code 1"),
        (["no-such-program"], "No such file or directory"),
    ],
)
def test_a_command_that_fails_is_said_once_and_stops_nothing(
    folder: Path, command: list[str], reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder.parent)
    save(folder / "white.png", 255)
    with caplog.at_level(logging.INFO):
        assert run(folder, on_anomaly=command, timeout_s=0.2)["anomalous"] == 2
    assert caplog.text.count(reason) == caplog.text.count("--on-anomaly failed") == 1
    if (child := folder.parent / "child").exists():  # nothing that it started is left
        ask = ["ps", "-o", "stat=", "-p", child.read_text().strip()]
        shown = subprocess.run(ask, capture_output=True, text=True, check=False)
        assert shown.stdout.strip()[:1] in ("", "Z")  # a zombie, where nobody reaps it


def test_a_command_of_windows_keeps_its_backslashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sep", "\\")
    monkeypatch.setattr(shutil, "which", lambda program: program)
    assert command_words(r'"C:\Program Files\mail.exe" {} -to me') == [
        r"C:\Program Files\mail.exe",
        "{}",
        "-to",
        "me",
    ]


def test_a_big_line_for_a_command_that_reads_nothing_is_no_trouble(tmp_path: Path) -> None:
    assert tell(["true"], tmp_path, b"x" * 10**6, 5.0) is None


def test_what_cannot_be_watched_or_written_is_refused_before_anything_is(folder: Path) -> None:
    out = folder.parent / "out"
    with untouched(folder.parent):
        with pytest.raises(BadValue, match="no folder at"):
            run(folder / "none")
        for place in (folder, folder.parent):
            with pytest.raises(BadValue, match=r"--move-to .* holds the watched folder"):
                run(folder, move_to=place)
        with pytest.raises(BadValue, match=r"--log is .*\.txt; expected .* \.jsonl, \.csv or \.sqlite"):
            run(folder, log=out / "log.txt")
        (folder.parent / "elsewhere").mkdir()
        log = folder.parent / "elsewhere" / "log.csv"
        with locked(log.parent, log.name), pytest.raises(OutputExists, match=r"log\.csv is being written"):
            run(folder, log=log)
        (folder.parent / "elsewhere").rmdir()
