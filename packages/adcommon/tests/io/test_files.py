"""Writing is all or nothing, and a full or closed disk is explained."""

import errno
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from adcommon.errors import OutputExists, OutputFailed, UnreadableImage
from adcommon.io import files
from adcommon.io.files import (
    MARKER,
    atomic_folder,
    atomic_write,
    delete,
    is_empty,
    json_text,
    mark,
    output_errors,
    plain,
    refuse_foreign,
    refuse_unwritable,
    remove_leftovers,
)
from adcommon.models.checkpoint import save_model
from adcommon.models.pickles import read_safetensors
from adcommon.training.resume import load_resume, save_resume

resource = pytest.importorskip("resource", reason="limits of a process exist on Unix only")


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["grün", "grün".encode(), lambda file: file.write("grün".encode())])
def test_text_bytes_and_functions_write_the_same_file(tmp_path: Path, content: object) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    atomic_write(path, content)  # type: ignore[arg-type]
    assert path.read_bytes() == "grün".encode()
    assert everything_in(path.parent) == ["file.txt"]


def test_permissions_follow_the_users_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def failing(code: int) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(code, os.strerror(code))

    return write


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EACCES, "Make it writable"),
        (errno.EROFS, "Make it writable"),
        (errno.EPERM, "Make it writable"),
    ],
)
def test_a_failed_write_keeps_the_old_file_and_says_what_to_do(
    tmp_path: Path, code: int, advice: str
) -> None:
    path = tmp_path / "state.pt"
    path.write_text("old")
    with pytest.raises(
        OutputFailed, match=rf"state\.pt: {os.strerror(code)}.*complete one is intact.\n.*{advice}"
    ):
        atomic_write(path, failing(code))
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["state.pt"]


def test_a_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match="Nothing incomplete"):
        atomic_write(tmp_path / "new", failing(errno.ENOSPC))
    assert everything_in(tmp_path) == []


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    def wrong(file: BinaryIO) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic_write(tmp_path / "file", wrong)
    assert everything_in(tmp_path) == []


def test_a_file_in_place_of_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputFailed, match="choose another --out"):
        atomic_write(tmp_path / "out" / "results.json", "x")


def test_an_unreadable_input_is_not_taken_for_an_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    reading = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/image.png")
    with pytest.raises(PermissionError), output_errors(tmp_path / "out" / "copy.png"):
        raise reading
    with pytest.raises(UnreadableImage), output_errors(tmp_path / "out" / "copy.png"):
        raise UnreadableImage("image.png") from reading


def test_a_folder_appears_complete_and_replaces_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_folder(folder) as new:
            assert new.parent == folder.parent
            (new / content).write_text(content)
            assert not (folder / content).exists()
        assert everything_in(folder) == [MARKER, content]
    assert everything_in(tmp_path) == ["model"]


@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_what_somebody_else_made_is_neither_replaced_nor_deleted(tmp_path: Path, kind: str) -> None:
    theirs, folder = tmp_path / "theirs", tmp_path / "model"
    theirs.mkdir()
    (theirs / "precious.txt").write_text("mine")
    if kind == "folder":
        theirs.rename(folder)
    elif kind == "link":
        folder.symlink_to(theirs)
    else:
        folder.write_text("mine")
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(OutputExists), atomic_folder(folder):
        pass
    if kind == "folder":
        with pytest.raises(OutputExists, match="no run of this product wrote"):
            delete(folder)
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_fails_keeps_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as new:
        (new / "file").write_text("old")
    with pytest.raises(RuntimeError, match="interrupted"), atomic_folder(folder):
        raise RuntimeError("interrupted")
    assert (folder / "file").read_text() == "old"
    assert everything_in(tmp_path) == ["model"]


def test_a_swap_that_fails_halfway_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as new:
        (new / "file").write_text("old")
    rename = Path.rename

    def fail_on_the_new_one(path: Path, target: Path) -> Path:
        if (path / "file").read_text() == "new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_on_the_new_one)
    with pytest.raises(OutputFailed, match="intact"), atomic_folder(folder) as new:
        (new / "file").write_text("new")
    assert (folder / "file").read_text() == "old"
    assert everything_in(tmp_path) == ["model"]


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_text("kept")
    script = "\n".join(
        [
            "import os; from pathlib import Path; from adcommon.io.files import atomic_write, atomic_folder",
            f"folder = Path({str(tmp_path)!r})",
            "entered = atomic_folder(folder / 'model'); entered.__enter__()",
            "atomic_write(folder / 'state.pt', lambda file: os._exit(0))",
        ]
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(everything_in(tmp_path)) == 3
    remove_leftovers(tmp_path)
    assert everything_in(tmp_path) == ["state.pt"]
    assert (tmp_path / "state.pt").read_text() == "kept"


def test_json_is_strict_and_keeps_numbers_exactly() -> None:
    values = {"a": 0.1 + 0.2, "b": np.float32(0.5), "c": np.int64(3), "d": float("inf"), "e": (1, None, True)}
    assert plain(values) == {"a": 0.1 + 0.2, "b": 0.5, "c": 3, "d": None, "e": [1, None, True]}
    assert "0.30000000000000004" in json_text(values)
    with pytest.raises(TypeError, match="set"):
        json_text({"x": {1}})


def write_beyond_a_real_limit(folder: Path) -> None:
    config = dict.fromkeys(("category", "recipe", "backbone", "preprocess", "threshold", "metrics"), "")
    config["method"] = "none"

    def save_all(size: int) -> Iterator[Callable[[], None]]:
        tensors = {"w": torch.zeros(size)}
        yield lambda: atomic_write(folder / "text", "x" * size)
        yield lambda: save_resume(folder / "state.pt", {"step": size, **tensors})
        yield lambda: save_model(folder / "model", tensors=tensors, config=config, card="")

    for save in save_all(10):
        save()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for save in save_all(300_000):
        with pytest.raises(OutputFailed, match=r"File too large.*is intact"):
            save()


def test_a_real_limit_is_recognised_behind_the_errors_of_torch_and_safetensors(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=write_beyond_a_real_limit, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert everything_in(tmp_path) == ["model", "state.pt", "text"]
    assert (tmp_path / "text").read_text() == "x" * 10
    assert load_resume(tmp_path / "state.pt")["step"] == 10
    assert read_safetensors(tmp_path / "model" / "model.safetensors")["w"].shape == (10,)


def test_places_for_files_are_tried_before_the_work(tmp_path: Path) -> None:
    refuse_unwritable(None, tmp_path / "new" / "deep" / "a.csv", tmp_path / "b.csv")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputExists, match="is a folder"):
        refuse_unwritable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputFailed, match="cannot write"):
        refuse_unwritable(tmp_path / "file" / "a.csv")


def test_a_folder_that_another_process_makes_at_this_moment_is_not_foreign(tmp_path, monkeypatch) -> None:
    """Several processes of one training make the same folder; whoever looks in between finds the mark."""

    def marked_meanwhile(folder: Path) -> bool:
        mark(folder)
        return is_empty(folder)

    monkeypatch.setattr(files, "is_empty", marked_meanwhile)
    refuse_foreign(tmp_path)
