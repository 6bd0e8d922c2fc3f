import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adcommon.errors import OutputFailed
from adcommon.io.cache import cache_folder, made_once


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    calls = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "file").write_text("content")

    for _ in range(2):
        assert made_once(tmp_path / "made", make, "a file") == tmp_path / "made"
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_two_processes_at_a_time_leave_one_whole_folder(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def make(folder: Path) -> None:
        together.wait()
        (folder / "file").write_text("content")

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda _: made_once(tmp_path / "made", make, "a file"), range(2)))
    assert [(folder / "file").read_text() for folder in made] == ["content"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "half").write_text("content")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputFailed, match=r"cannot write a file into the cache(.|\n)*AD_CACHE"):
        made_once(tmp_path / "made", make, "a file")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AD_CACHE", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there"
    monkeypatch.delenv("AD_CACHE")
    assert cache_folder() == Path.home() / ".cache/adcommon"
