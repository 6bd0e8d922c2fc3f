"""A table that is cut anywhere is read up to its last whole row, and no table of another origin is."""

import os
from pathlib import Path

import pytest

from adcommon.deploy.rows import Row, append, file_digest, listing_digest, read_rows, refuse_other, rewind
from adcommon.errors import OutputExists

PATHS = [Path("a.png"), Path('b\n"c.png'), Path("caf\udce9.png"), Path("=d,;.png"), Path("e.png")]


def judge(path: Path, score: float | None, unfamiliar: str | None, error: str | None) -> Row:
    return Row(path, score, None if score is None else 1 / (3 + score), 0.25, 0.05, unfamiliar, error)


ROWS = [
    judge(PATHS[0], 0.1 + 0.2, None, None),
    judge(PATHS[1], -1e-17, None, None),
    judge(PATHS[2], None, None, 'cannot read\n"it", because: é'),
    judge(PATHS[3], None, "much darker", "-no"),
    judge(PATHS[4], 2.0, "much darker (12, not 90)", None),
]


def test_rows_say_what_they_are() -> None:
    assert [row.decision for row in ROWS] == ["anomalous", "normal", "unknown", "unknown", "unfamiliar"]
    assert Row(Path("a"), 1.0, None, None, None, None, None).decision == "unknown"


def test_a_table_that_is_cut_anywhere_is_read_up_to_its_last_whole_row(tmp_path: Path) -> None:
    table = tmp_path / "predictions.csv"
    rewind(table, [])
    ends = [table.stat().st_size]
    for row in ROWS:
        append(table, [row])
        ends.append(table.stat().st_size)
    content = table.read_bytes()
    for size in range(len(content) + 1):
        table.write_bytes(content[:size])
        rows = read_rows(table, PATHS, judge)
        assert rows == ROWS[: sum(end <= size for end in ends[1:])]
        rewind(table, rows)
        append(table, ROWS[len(rows) :])
        assert table.read_bytes() == content
    assert read_rows(tmp_path / "nowhere", PATHS, judge) == []


@pytest.mark.parametrize("paths", [PATHS[:3], PATHS[::-1], [Path("x"), *PATHS[1:]]])
def test_a_table_of_other_images_is_refused(tmp_path: Path, paths: list[Path]) -> None:
    table = tmp_path / "predictions.csv"
    rewind(table, [])
    append(table, ROWS)
    with pytest.raises(OutputExists, match=r"row \d differs"):
        read_rows(table, paths, judge)


def test_what_differs_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    run.write_text('{"model": "a", "threshold": 0.5, "extra": 1}')
    with pytest.raises(OutputExists, match="other values of model, extra, maps"):
        refuse_other(run, {"model": "b", "threshold": 0.5, "maps": True})
    for text in ("", "[]", "\x00", '{"model": '):
        run.write_text(text)
        with pytest.raises(OutputExists, match="other values of model"):
            refuse_other(run, {"model": "b"})


def test_digests_change_with_what_they_are_of(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("a")
    before = file_digest(tmp_path), listing_digest([tmp_path / "config.json"])
    (tmp_path / "README.md").write_text("changed")
    assert (file_digest(tmp_path), listing_digest([tmp_path / "config.json"])) == before
    (tmp_path / "model.safetensors").write_text("b")
    os.utime(tmp_path / "config.json", ns=(1, 1))
    assert file_digest(tmp_path) != before[0]
    assert listing_digest([tmp_path / "config.json"]) != before[1]
    assert file_digest(tmp_path / "model.safetensors") != file_digest(tmp_path / "config.json")
