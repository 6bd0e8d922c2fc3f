import os
import signal
from functools import partial
from pathlib import Path

import pytest

from adcommon.io.files import atomic_write
from adcommon.testing import processes
from adcommon.testing.processes import SignalWhenSaving, Started, run_together


def test_a_command_has_a_process_an_environment_and_an_end_of_its_own(tmp_path: Path) -> None:
    done = Started("ad", "datasets").wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert "mvtec" in done.stdout
    failed = Started("ad", "report", tmp_path, before=partial(os.write, 2, b"began\n")).wait()
    assert failed.returncode == 2
    assert failed.stderr.startswith("began\n")
    assert str(tmp_path) in failed.stderr
    missing = Started("ad", "check", "mvtec", environment={"AD_DATA": str(tmp_path)}).wait()
    assert f"not found at {tmp_path}" in missing.stderr


def test_a_command_that_hangs_is_killed_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "TIMEOUT_S", 1)
    hanging = Started("ad", "datasets", before=signal.pause)
    with pytest.raises(AssertionError, match="ad hangs"):
        hanging.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(hanging.pid, 0)


def save_three_times(file: Path) -> None:
    for number in "123":
        atomic_write(file, number)
        atomic_write(file.with_name("other"), number)


def test_a_signal_comes_when_a_file_is_written_for_the_nth_time(tmp_path: Path) -> None:
    file, caught = tmp_path / "state.pt", []
    before = signal.signal(signal.SIGUSR1, lambda *_: caught.append(file.read_text()))
    try:
        SignalWhenSaving(file, signal.SIGUSR1, time=2)()
        save_three_times(file)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught == ["1"]  # the second writing is about to end
    assert file.read_text() == "3"


def test_processes_know_their_ranks_and_each_its_end() -> None:
    assert [done.returncode for done in run_together("ad", "datasets", processes=3)] == [0, 0, 0]
