"""The log holds whole lines or none, in every form, and is never taken for somebody else's file."""

import sqlite3
from pathlib import Path

import pytest

from adcommon.deploy.watch.log import Entry, open_log
from adcommon.errors import BadValue
from adcommon.io.text import printable

ENTRIES = [
    Entry(
        "2026-11-28T20:56:23+00:00",
        path,
        score,
        1e-17,
        0.1,
        None,
        decision,
        None,
        error,
        12,
        10**18 + 1,
        "ab",
    )
    for path, score, decision, error in [
        ("/line/a.png", 0.1 + 0.2, "anomalous", None),
        (printable('/line/=1+1;\n\u2028\udce9,"\\x5c.png'), None, "unknown", 'it\'s "broken", null'),
        ("/line/c.png", -3e-300, "normal", None),
    ]
]
SUFFIXES = (".jsonl", ".csv", ".sqlite")


def written(log: Path) -> Path:
    assert list(open_log(log).entries()) == []
    for entry in ENTRIES:
        open_log(log).append(entry)
    return log


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, suffix: str) -> None:
    assert list(open_log(written(tmp_path / f"log{suffix}")).entries()) == ENTRIES


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_of_a_line_that_was_cut_short_nothing_stays(tmp_path: Path, suffix: str) -> None:
    whole = written(tmp_path / f"whole{suffix}").read_bytes()
    log = tmp_path / f"log{suffix}"
    for end in range(0, len(whole), 3):
        log.write_bytes(whole[:end])
        known = list(open_log(log).entries())
        assert known == ENTRIES[: len(known)]
        for entry in ENTRIES[len(known) :]:
            open_log(log).append(entry)
        assert log.read_bytes() == whole, end


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"my notes", b"my notes\n", b'{"time":1}\n', b"time,path\n1,2\n", b"\xff\n"]
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, suffix: str, content: bytes) -> None:
    log = tmp_path / f"log{suffix}"
    log.write_bytes(content)
    with pytest.raises(BadValue, match="no log of `ad watch`"):
        list(open_log(log).entries())
    assert log.read_bytes() == content


def test_a_table_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute("create table images (name)")
    with pytest.raises(BadValue, match="no such column"):
        list(open_log(tmp_path / "log.sqlite").entries())


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_line_that_was_changed_is_named(tmp_path: Path, suffix: str) -> None:
    log = written(tmp_path / f"log{suffix}")
    log.write_bytes(log.read_bytes().replace(b"anomalous", b"good"))
    with pytest.raises(
        BadValue, match=rf"log\{suffix} is no log of `ad watch`: line {1 + (suffix == '.csv')}\."
    ):
        list(open_log(log).entries())
