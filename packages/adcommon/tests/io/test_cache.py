import errno
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adcommon.io.cache import DiskCache, default_cache

SOME = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return DiskCache(tmp_path_factory.mktemp("shared"))


@settings(max_examples=50)
@given(
    array=hnp.arrays(
        st.sampled_from([np.uint8, np.bool_, np.float16, np.float32, np.float64, np.int64, ">f4"]),
        hnp.array_shapes(min_dims=0, max_dims=6, min_side=0, max_side=4),
    ),
    key=st.text(),
)
def test_what_comes_back_is_what_was_stored(shared, array, key):
    shared.put(key, array)
    found = shared.get(key)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_a_view_that_is_not_contiguous_is_stored_by_its_values(tmp_path):
    cache = DiskCache(tmp_path)
    cache.put("k", SOME.transpose(2, 0, 1)[:, ::2])
    np.testing.assert_array_equal(cache.get("k"), SOME.transpose(2, 0, 1)[:, ::2])


def test_an_unknown_key_is_none_and_creates_nothing(tmp_path):
    cache = DiskCache(tmp_path / "cache")
    assert cache.get("k") is None
    assert "k" not in cache
    assert not (tmp_path / "cache").exists()


def test_a_second_cache_on_the_folder_reads_the_entry_and_a_new_value_replaces_it(tmp_path):
    DiskCache(tmp_path).put("k", SOME)
    assert "k" in DiskCache(tmp_path)
    DiskCache(tmp_path).put("k", SOME + 1)
    np.testing.assert_array_equal(DiskCache(tmp_path).get("k"), SOME + 1)
    assert len(entries(tmp_path)) == 1


def test_a_cached_array_cannot_be_changed_by_its_reader(tmp_path):
    cache = DiskCache(tmp_path)
    cache.put("k", SOME)
    with pytest.raises(ValueError, match="read-only"):
        cache.get("k")[0] = 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry[:-1],
        lambda entry: entry[:10],
        lambda entry: b"",
        lambda entry: entry + b"x",
        lambda entry: entry[:-3] + bytes([entry[-3] ^ 1]) + entry[-2:],
        lambda entry: entry[:9] + b"V" + entry[10:],
        lambda entry: b"PK\x03\x04" + entry[4:],
    ],
    ids=["truncated", "header cut", "empty", "too long", "bit flipped", "other dtype", "other file"],
)
def test_a_damaged_entry_is_dropped_with_a_log_line(tmp_path, caplog, damage):
    cache = DiskCache(tmp_path)
    cache.put("k", SOME)
    (path,) = entries(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("k") is None
    assert "damaged cache entry dropped" in caplog.text
    assert str(path) in caplog.text
    assert not path.exists()
    cache.put("k", SOME)
    np.testing.assert_array_equal(cache.get("k"), SOME)


def test_an_entry_under_another_keys_name_is_not_served(tmp_path):
    cache = DiskCache(tmp_path)
    cache.put("a", SOME)
    (a,) = entries(tmp_path)
    cache.put("b", SOME + 1)
    (b,) = set(entries(tmp_path)) - {a}
    b.replace(a)
    assert cache.get("a") is None


def test_the_least_recently_used_entries_go_first(tmp_path):
    size = 10_000
    cache = DiskCache(tmp_path, limit_bytes=10 * (size + 100))
    for number in range(9):
        cache.put(f"{number}", np.full(size, number, np.uint8))
    # "0" and "1" were used a minute after the others: the clock of an entry is its file's date.
    now = time.time()
    for path in entries(tmp_path):
        os.utime(path, (now - 1000, now - 1000))
    cache.get("0")
    cache.get("1")
    for number in range(9, 15):
        cache.put(f"{number}", np.full(size, number, np.uint8))
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= cache.limit_bytes
    kept = {number for number in range(15) if cache.get(f"{number}") is not None}
    assert {0, 1, 13, 14} <= kept
    assert not {2, 3, 4, 5, 6, 7, 8} <= kept


def test_an_array_above_the_limit_is_not_stored(tmp_path):
    cache = DiskCache(tmp_path, limit_bytes=100)
    cache.put("k", np.zeros(101, np.uint8))
    assert entries(tmp_path) == []
    assert cache.writing


def test_what_a_killed_process_left_is_cleared_when_room_is_needed(tmp_path):
    left = tmp_path / "ab" / "left.tmp"
    left.parent.mkdir()
    left.write_bytes(bytes(900))
    os.utime(left, (1, 1))
    fresh = left.with_name("fresh.tmp")
    fresh.write_bytes(b"being written by another process")
    cache = DiskCache(tmp_path, limit_bytes=1000)
    cache.put("k", np.zeros(500, np.uint8))
    assert not left.exists()
    assert fresh.exists()
    assert cache.get("k") is not None


def test_a_folder_that_cannot_be_made_switches_the_cache_off_with_one_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    cache = DiskCache(tmp_path / "file" / "cache")
    cache.put("k", SOME)
    cache.put("l", SOME)
    assert cache.get("k") is None
    assert not cache.writing
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cache switched off" in caplog.text


def test_a_full_disk_switches_the_cache_off_and_leaves_no_rest(tmp_path, caplog, monkeypatch):
    cache = DiskCache(tmp_path)
    cache.put("before", SOME)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(full))
    cache.put("k", SOME)
    cache.put("l", SOME)
    assert caplog.text.count("cache switched off") == 1
    assert "No space left on device" in caplog.text
    assert len(entries(tmp_path)) == 1
    np.testing.assert_array_equal(cache.get("before"), SOME)


def test_a_read_only_folder_still_serves_what_it_has(tmp_path, caplog):
    cache = DiskCache(tmp_path)
    cache.put("k", SOME)
    (path,) = entries(tmp_path)
    os.utime(path, (1, 1))
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        np.testing.assert_array_equal(cache.get("k"), SOME)
    finally:
        path.parent.chmod(0o755)
    assert caplog.text == ""


WRITER = """
import sys
from pathlib import Path
import numpy as np
from adcommon.io.cache import DiskCache

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
cache = DiskCache(folder, limit_bytes=150_000)
hits = 0
for number in np.random.default_rng(seed).integers(0, 40, 400):
    expected = np.full((100, 100), number, np.uint8)
    found = cache.get(f"key {number}")
    if found is None:
        cache.put(f"key {number}", expected)
    else:
        hits += 1
        assert np.array_equal(found, expected), number
assert cache.writing
print(hits)
"""


def test_parallel_processes_read_whole_entries_while_others_write_and_evict(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert int(out) > 0
        assert err == ""
    # Each of the four may pass the limit by a sixteenth, or by one entry.
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= 150_000 + 4 * 10_100
    assert not [path for path in entries(tmp_path) if path.suffix == ".tmp"]


def test_the_default_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("AD_CACHE", str(tmp_path / "mine"))
    default_cache("images").put("k", SOME)
    assert entries(tmp_path / "mine" / "images")
    assert default_cache("images", enabled=False) is None


def test_the_default_cache_lies_below_the_home_folder_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("AD_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert default_cache("images").folder == tmp_path / ".cache" / "adcommon" / "images"


def test_arrays_of_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype object"):
        DiskCache(tmp_path).put("k", np.array([None]))
