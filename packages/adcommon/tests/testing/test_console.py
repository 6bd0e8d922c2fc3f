import sys
from pathlib import Path

import pytest

from adcommon.testing.console import call, kill_as_soon_as, script


def waits(file: Path, then: str) -> list[str]:
    """A command that writes a file after a moment."""
    code = f"import time; time.sleep(0.1); open({str(file)!r}, 'w').close(); {then}"
    return [sys.executable, "-c", code]


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


def test_a_command_of_its_own_is_the_installed_one() -> None:
    program, *rest = script("ad", "check", Path("folder"))
    assert Path(program).is_file()
    assert rest == ["check", "folder"]
    several = script("ad", "datasets", processes=3)
    assert several[-4:] == ["--nproc-per-node", "3", program, "datasets"]


def test_a_command_is_killed_once_it_has_written_a_file(tmp_path: Path) -> None:
    kill_as_soon_as(tmp_path / "state", waits(tmp_path / "state", "time.sleep(60); open('after', 'w')"))
    assert (tmp_path / "state").exists()
    with pytest.raises(AssertionError, match=r"exit code 3(.|\n)*too early"):
        kill_as_soon_as(tmp_path / "never", [sys.executable, "-c", "print('too early'); raise SystemExit(3)"])
