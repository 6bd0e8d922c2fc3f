"""Unpack an archive that nobody has looked at: every name checked, nothing overwritten, nothing outside.

Only plain files and folders come out. A name that leads elsewhere, a link, a device, a name that occurs
twice, or more data than an archive of its size can honestly hold is an error, after which the folder is gone.
"""

import hashlib
import io
import logging
import lzma
import os
import shutil
import stat
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tqdm import tqdm

from adcommon.errors import OutputFailed, UnreadableArchive, UserError
from adcommon.io.files import MARKER, atomic_write, delete, download_gone_wrong, mark, output_errors

logger = logging.getLogger(__name__)

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")

_LARGEST_RATIO = 200
"""Of unpacked to packed bytes; masks are packed to a hundredth, bombs to a thousandth or less."""
_ALWAYS_ALLOWED = 1 << 30
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, OSError)
"""What the decoders raise; an OSError without a number of the system's is that of bz2 or gzip."""
_LONGEST_NAME = 255
"""Bytes that a disk keeps of a name."""
_JUNK = ("__MACOSX", ".DS_Store", MARKER)
_BLOCK = 1 << 20
_TAR_END = 512
_BEGUN = ".unpacking"


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive."""

    name: str
    size: int
    """Bytes when unpacked, as the archive says."""
    problem: str
    """Why it must not be unpacked; empty for a plain file."""
    open: Callable[[], IO[bytes] | None]
    """None for what is no file."""


def is_archive(path: Path) -> bool:
    """True if the file's name is one of an archive."""
    return path.name.lower().endswith(SUFFIXES)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archives: Sequence[Path], folder: Path, fingerprint: str) -> None:
    """Unpack archives into one folder; what an interrupted run with the same fingerprint left is kept.

    Raises:
        UnreadableArchive: damaged, no archive at all, or unsafe; says which entry.
        OutputFailed: the disk is full or cannot be written.
        OutputExists: the folder is there, and somebody else's.
    """
    begun = folder / _BEGUN
    if folder.exists() and not (begun.is_file() and begun.read_text() == fingerprint):
        delete(folder)
    mark(folder)
    atomic_write(begun, fingerprint)
    for half_written in folder.rglob(".part-*"):
        half_written.unlink()
    seen: dict[str, Path] = {}
    try:
        for archive in archives:
            _unpack_one(archive, folder, seen)
    except UnreadableArchive:
        delete(folder)
        raise


def _unpack_one(archive: Path, folder: Path, seen: dict[str, Path]) -> None:
    allowed = _LARGEST_RATIO * archive.stat().st_size + _ALWAYS_ALLOWED
    progress = tqdm(desc=f"unpacking {archive.name}", unit="file", disable=None)
    try:
        with progress, _members(archive) as members:
            for member in members:
                if any(part in _JUNK for part in member.name.split("/")):
                    continue
                name = _safe_name(archive, member)
                if name in seen:
                    raise _refused(archive, member, f"occurs twice, the first time in {seen[name].name}")
                seen[name] = archive
                allowed -= member.size
                if allowed < 0:
                    why = "is beyond what an archive of this size can hold (a zip bomb?)"
                    raise _refused(archive, member, why)
                _write(archive, member, folder / name)
                progress.update()
    except UserError:
        raise
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        words = str(error).strip().split("\n")[0].rstrip(":") or type(error).__name__
        reason = f"{words}; it is damaged or incomplete, download it again"
        why = download_gone_wrong(archive) or reason
        raise UnreadableArchive(f"cannot unpack {archive}: {why}") from None


def _safe_name(archive: Path, member: Member) -> str:
    """The member's path below the folder."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or {"\\", "\0"} & set(member.name) or ":" in (parts or [""])[0]:
        raise _refused(archive, member, "is not a relative path")
    if ".." in parts or not parts:
        raise _refused(archive, member, "leads out of the folder")
    if max(len(os.fsencode(part)) for part in parts) > _LONGEST_NAME:
        raise _refused(archive, member, "has a name that is too long")
    if parts[-1].startswith(".part-") or parts == [_BEGUN]:
        raise _refused(archive, member, "has a name that is used while unpacking")
    if member.problem:
        raise _refused(archive, member, member.problem)
    return "/".join(parts)


def _write(archive: Path, member: Member, target: Path) -> None:
    """Write a file beside its name and rename it, so that a file under its name is a whole one."""
    if target.is_file() and target.stat().st_size == member.size:
        return  # of the interrupted run
    part = target.with_name(f".part-{uuid.uuid4().hex}")
    with output_errors(target):
        existing = next(parent for parent in target.parents if parent.is_dir())
        if shutil.disk_usage(existing).free < member.size:
            raise OutputFailed(
                f"no room for {target}: {member.size} bytes are needed; free some space or choose another "
                "--target, then run the command again"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise _refused(archive, member, "needs a folder where there is a file") from None
        if target.is_dir():
            raise _refused(archive, member, "is a file where there is a folder")
        try:
            with member.open() or io.BytesIO() as source, part.open("xb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
            if part.stat().st_size != member.size:
                raise EOFError(f"'{member.name}' ends early")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    """The files of an archive; folders are left out, they come with their files."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(opened)
        return
    with tarfile.open(archive) as opened_tar:
        if archive.name.lower().endswith(".tar"):
            _refuse_open_end(archive)
        yield _tar_members(opened_tar)


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for entry in opened.infolist():
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.is_dir():
            continue
        problem = "needs a password" if entry.flag_bits & 1 else ""
        if kind not in (0, stat.S_IFREG):
            problem = "is a link or a device"
        yield Member(entry.orig_filename, entry.file_size, problem, partial(opened.open, entry))


def _tar_members(opened: tarfile.TarFile) -> Iterator[Member]:
    for entry in opened:
        if entry.isdir():
            continue
        problem = ""
        if entry.issym() or entry.islnk():
            problem = f"is a link to '{entry.linkname}'"
        elif not entry.isreg():
            problem = "is a device"
        else:
            try:
                tarfile.data_filter(entry, ".")
            except (tarfile.FilterError, ValueError) as error:  # the latter of a zero byte in a name
                problem = f"is refused: {error}"
        yield Member(entry.name, entry.size, problem, partial(opened.extractfile, entry))


def _refuse_open_end(archive: Path) -> None:
    """A tar file ends with blocks of zeros; the module `tarfile` does not miss them."""
    with archive.open("rb") as file:
        file.seek(-_TAR_END, 2)
        if any(file.read()):
            raise EOFError("it ends early")


def _refused(archive: Path, member: Member, why: str) -> UnreadableArchive:
    return UnreadableArchive(
        f"{archive} is not unpacked: its entry '{member.name}' {why}\n"
        "  Nothing of it was kept. Download it again from the official page; if you trust it, unpack it\n"
        "  yourself and pass the folder as --source."
    )
