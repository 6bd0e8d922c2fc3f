"""Files and folders that are either complete or untouched: written beside their place, then swapped in."""

import errno
import json
import math
import numbers
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adcommon.errors import OutputExists, OutputFailed, UserError
from adcommon.io.text import csv_cell

_FREE_SPACE = (
    "Free some space or choose another --out, then run the command again (a training: with --resume)."
)
_MAKE_WRITABLE = "Make it writable or choose another --out, then run the command again."
_WHAT_TO_DO = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.EROFS: _MAKE_WRITABLE,
    errno.EACCES: _MAKE_WRITABLE,
    errno.EPERM: _MAKE_WRITABLE,
    errno.ENAMETOOLONG: "The path is too long for this system; choose a shorter --out.",
    errno.ENOTDIR: "Part of this path is a file; choose another --out.",
    errno.EEXIST: "A file has the name of a folder that is needed; choose another --out.",
}
_LEFTOVER = ".{name}.writing-{token}"
MARKER = ".adcommon"
"""A file in every folder that this product made and may replace or delete."""
LOCK = ".adcommon.lock"
"""Begins the names of what a process that writes in a folder keeps there; a killed one leaves them."""


def atomic_write(
    path: Path, content: str | bytes | Callable[[BinaryIO], object], *, sync: bool = True
) -> None:
    """Write a file so that readers, and a crash at any moment, see the old content or the new.

    Args:
        path: missing parent folders are made.
        content: text (UTF-8; what it has no bytes for as Python's escapes, which JSON reads back), bytes, or
            a function that writes into the open file it is given.
        sync: wait until the disk has it; False for what can be made again, which a power cut may leave empty.

    Raises:
        OutputFailed: the disk is full or the place cannot be written; what was at `path` is intact.
    """
    path = path.resolve()
    temporary = _sibling(path)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x+b") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(
                        content.encode(errors="backslashreplace") if isinstance(content, str) else content
                    )
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` at the end of the block.

    If anything fails, the new folder vanishes and the old one stays as it was. Between the two renames of the
    swap both are complete on disk, the old one under a hidden name.

    Raises:
        OutputFailed: the disk is full or the place cannot be written.
        OutputExists: what is at `folder` is somebody else's.
    """
    folder = folder.resolve()
    refuse_foreign(folder)
    temporary, old = _sibling(folder), _sibling(folder)
    with output_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            mark(temporary)
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    with path.open("rb+") as file:
                        os.fsync(file.fileno())
            if folder.exists():
                folder.rename(old)
            try:
                temporary.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def download_gone_wrong(path: Path) -> str | None:
    """The common reasons why a file is not what its name says; None if it is none of them."""
    with path.open("rb") as file:
        start = file.read(200).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself; run: git lfs pull"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is an HTML page (a failed download?)"
    return "the file is empty" if not start else None


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half written below a folder of our own, which is locked."""
    for path in list(folder.rglob(_LEFTOVER.format(name="*", token="[0-9a-f]" * 32))):
        remove(path)  # a folder may have lost its mark when it was being deleted


def remove(path: Path) -> None:
    """Delete what lies in a folder of our own, if it is there; of a link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mark(folder: Path) -> None:
    """Say that a folder is this product's own, to replace and delete; it is made if it is not there."""
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text("Made by adcommon, which may replace or delete this folder.\n")


def is_own(folder: Path) -> bool:
    """True if this product made the folder, which is no link to another."""
    return not folder.is_symlink() and (folder / MARKER).is_file()


def is_empty(folder: Path) -> bool:
    """True if nothing but a lock is in a folder."""
    return all(path.name.startswith(LOCK) for path in folder.iterdir())


def refuse_foreign(folder: Path) -> None:
    """Refuse to write over a folder, or a file in its place, that this product did not make.

    Raises:
        OutputExists: there is one, and it is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputExists(f"{folder} is a file, where a folder is needed; choose another --out")
    if folder.is_dir() and not is_empty(folder) and not (folder / MARKER).is_file():  # the mark comes first
        raise OutputExists(
            f"{folder} holds files that no run of this product wrote; move them, or choose another --out"
        )


def refuse_unwritable(*files: Path | None) -> None:
    """Refuse files that could not be written, before the work that they are for; None is no file.

    Raises:
        OutputExists: a folder is there.
        OutputFailed: the place cannot be written.
    """
    for file in filter(None, files):
        if file.is_dir():
            raise OutputExists(f"{file} is a folder, where a file is to be written; name a file")
        place = next(parent for parent in file.resolve().parents if parent.exists())
        probe = _sibling(place / file.name)
        with output_errors(file):
            probe.touch()
            probe.unlink()


def delete(path: Path) -> None:
    """Delete a file, or a folder that this product made, if it is there.

    Raises:
        OutputExists: a folder that is somebody else's.
    """
    if path.is_dir() and not path.is_symlink():
        refuse_foreign(path)
    remove(path)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a place that cannot be written into `OutputFailed`, which names `path`.

    Other errors pass. Libraries that write by themselves hide the system's error: torch behind a
    RuntimeError, safetensors in its text; both are recognised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        code, where = _system_error(error)
        if code not in _WHAT_TO_DO or not _related(where or path, path):
            raise
        kept = "The last complete one is intact." if path.exists() else "Nothing incomplete was left there."
        message = f"cannot write {path}: {os.strerror(code)}. {kept}\n  {_WHAT_TO_DO[code]}"
        raise OutputFailed(message) from error


def json_text(value: object) -> str:
    """Strict JSON, indented; see `plain` for what is accepted.

    >>> print(json_text({"auroc": float("nan"), "folder": Path("runs")}), end="")
    {
      "auroc": null,
      "folder": "runs"
    }
    """
    return json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Comma-separated values with one line per row; see `csv_cell` for what a cell becomes.

    >>> print(csv_text([["name", "score"], ["a,b", None]]), end="")
    name,score
    "a,b",
    """
    return "".join(",".join(map(csv_cell, row)) + "\n" for row in rows)


def csv_columns(rows: Sequence[Mapping[str, object]]) -> str:
    """The same with a column for each name, in the order of first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text([columns, *([row.get(name) for name in columns] for row in rows)])


def plain(value: object) -> Any:
    """The value in JSON's types: dataclasses become dicts, paths text, NumPy's numbers Python's, NaN None."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    raise TypeError(f"cannot be written as JSON or YAML: {value!r} of type {type(value).__qualname__}")


def _sibling(path: Path) -> Path:
    """A temporary's name in the same folder, so that a rename stays on one disk; short enough everywhere."""
    return path.with_name(_LEFTOVER.format(name=path.name[:40], token=uuid.uuid4().hex))


def _system_error(error: BaseException | None) -> tuple[int, Path | None]:
    """The errno at the root of an exception (0 if the system reported none) and the file it names."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            named = isinstance(error.filename, str | os.PathLike)
            return error.errno, Path(error.filename) if named else None
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            return int(found.group(1)), None
        error = error.__cause__ or error.__context__
    return 0, None


def _related(where: Path, path: Path) -> bool:
    """False for a file elsewhere, which was being read, not written."""
    where, path = where.resolve(), path.resolve()
    return where.is_relative_to(path.parent) or path.is_relative_to(where)
