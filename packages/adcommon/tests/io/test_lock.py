"""Two processes never write one folder, and a killed one keeps nobody out."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adcommon.errors import OutputExists, OutputFailed
from adcommon.io.files import is_empty, refuse_foreign
from adcommon.io.lock import locked

_HOLD = """
import sys
from pathlib import Path
from adcommon.io.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """A process that keeps the lock until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    process = hold(tmp_path / "out")
    with pytest.raises(OutputExists, match=rf"written by another process, number {process.pid};"):
        with locked(tmp_path / "out"):
            pass
    process.communicate("")
    with locked(tmp_path / "out"):
        assert is_empty(tmp_path / "out")


def test_a_killed_process_keeps_nobody_out(tmp_path: Path) -> None:
    process = hold(tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    refuse_foreign(tmp_path / "out")
    for _ in range(2):
        with locked(tmp_path / "out"):
            pass


def test_a_child_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with locked(tmp_path / "out"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_that_stays_empty_vanishes_and_another_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / "c"):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="refused"), locked(tmp_path / "a" / "b"):
        raise ValueError("refused")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "kept.txt").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept.txt"]


def test_a_file_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputFailed, match="choose another --out"), locked(tmp_path / "out"):
        pass
