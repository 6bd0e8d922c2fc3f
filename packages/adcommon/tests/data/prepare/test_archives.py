import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adcommon.data.prepare import archives
from adcommon.data.prepare.archives import is_archive, sha256, unpack
from adcommon.errors import OutputExists, OutputFailed, UnreadableArchive
from adcommon.io.files import MARKER

FILES = {"a/train/0.png": b"zero" * 50, "a/test/1 'x' \u00e9.png": b"one", "b.csv": b"id,label\n"}
PARTS = ["..", ".", "a", "b", "", "a b", "'", "\n", "\u00e9"]
NAMES = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=4).map("/".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
).filter(bool)
FORMS = ("zip", "tar", "tar.gz", "tgz", "tar.xz", "tar.bz2")


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo) -> Path:
    form = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, form) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        for member in members:
            file.addfile(member)
    return path


def make(path: Path, files: dict[str, bytes]) -> Path:
    return make_zip(path, files) if path.suffix == ".zip" else make_tar(path, files)


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".unpacking", MARKER)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_files_and_no_junk(form: str, tmp_path: Path) -> None:
    archive = make(tmp_path / f"data.{form}", FILES | {"__MACOSX/a/._0.png": b"junk", "a/.DS_Store": b"junk"})
    assert is_archive(archive)
    unpack([archive], tmp_path / "out", "1")
    assert content(tmp_path / "out") == FILES


def test_several_archives_share_one_folder(tmp_path: Path) -> None:
    first, second = make_zip(tmp_path / "1.zip", {"a/0": b"0"}), make_tar(tmp_path / "2.tar", {"a/1": b"1"})
    unpack([first, second], tmp_path / "out", "1")
    assert content(tmp_path / "out") == {"a/0": b"0", "a/1": b"1"}
    with pytest.raises(UnreadableArchive, match=r"'a/0' occurs twice, the first time in 1\.zip"):
        unpack([first, make_tar(tmp_path / "3.tar", {"a/0": b"2"})], tmp_path / "out", "2")


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../escaped.png", "leads out of the folder"),
        ("a/../../escaped.png", "leads out of the folder"),
        ("/escaped.png", "is not a relative path"),
        ("..\\escaped.png", "is not a relative path"),
        ("C:/escaped.png", "is not a relative path"),
        (".unpacking", "has a name that is used while unpacking"),
        ("a/.part-1", "has a name that is used while unpacking"),
        ("a/train/0.png/inside.png", "needs a folder where there is a file"),
        ("a/train", "is a file where there is a folder"),
        ("a/train/0.png", "occurs twice"),
        ("a/./train//0.png", "occurs twice"),
        ("a/" + "x" * 300 + "/0.png", "has a name that is too long"),
    ],
)
def test_a_dangerous_name_is_refused_and_nothing_kept(form: str, name: str, why: str, tmp_path: Path) -> None:
    inside = tmp_path / "deep/er"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of the duplicate
        archive = tmp_path / f"data.{form}"
        if form == "zip":
            with zipfile.ZipFile(archive, "w") as file:
                for entry, bytes_ in [*FILES.items(), (name, b"evil")]:
                    file.writestr(entry, bytes_)
        else:
            evil = tarfile.TarInfo(name)
            make_tar(archive, FILES, evil)
    with pytest.raises(UnreadableArchive, match=why) as error:
        unpack([archive], inside / "out", "1")
    assert str(archive) in str(error.value)
    assert "Download it again" in str(error.value)
    assert list(inside.iterdir()) == []
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (link("a/link.png", "/etc/passwd", tarfile.SYMTYPE), "is a link to '/etc/passwd'"),
        (link("a/link.png", "../../secret", tarfile.SYMTYPE), "is a link to '../../secret'"),
        (link("a/link.png", "a/train/0.png", tarfile.LNKTYPE), "is a link to 'a/train/0.png'"),
        (link("a/pipe", "", tarfile.FIFOTYPE), "is a device"),
        (link("a/disk", "", tarfile.BLKTYPE), "is a device"),
    ],
)
def test_links_and_devices_are_refused(member: tarfile.TarInfo, why: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableArchive, match=why):
        unpack([make_tar(tmp_path / "data.tar", FILES, member)], tmp_path / "out", "1")
    assert not (tmp_path / "out").exists()


def test_a_symbolic_link_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as file:
        entry = zipfile.ZipInfo("a/link.png")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(UnreadableArchive, match=r"'a/link\.png' is a link or a device"):
        unpack([tmp_path / "data.zip"], tmp_path / "out", "1")


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
def test_a_bomb_is_refused_before_it_fills_the_disk(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 0)
    archive = make(tmp_path / f"bomb.{form}", {"a.png": b"0" * 4_000_000})
    assert archive.stat().st_size < 20_000
    with pytest.raises(UnreadableArchive, match=r"'a\.png' is beyond what an archive of this size can hold"):
        unpack([archive], tmp_path / "out", "1")
    assert not (tmp_path / "out").exists()


def test_what_finds_no_room_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(OutputFailed, match=r"no room for .*0\.png: 200 bytes are needed"):
        unpack([make_zip(tmp_path / "data.zip", FILES)], tmp_path / "out", "1")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.98])
def test_a_truncated_archive_is_an_error(form: str, kept: float, tmp_path: Path) -> None:
    noise = {f"{number}.png": os.urandom(3000) for number in range(4)}
    archive = make(tmp_path / f"data.{form}", noise)
    archive.write_bytes(archive.read_bytes()[: int(kept * archive.stat().st_size)])
    if form == "tar" and kept == 0.98:  # only blocks of zeros are lost: everything is there
        unpack([archive], tmp_path / "out", "1")
        assert content(tmp_path / "out") == noise
        return
    with pytest.raises(UnreadableArchive, match=r"cannot unpack .*data\..*damaged or incomplete"):
        unpack([archive], tmp_path / "out", "1")
    assert not (tmp_path / "out").exists()


def test_a_tar_file_cut_between_two_files_is_an_error(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "data.tar", {f"{number}": b"x" * 512 for number in range(4)})
    archive.write_bytes(archive.read_bytes()[: 2 * 1024])
    with pytest.raises(UnreadableArchive, match="it ends early"):
        unpack([archive], tmp_path / "out", "1")


def test_damaged_content_is_an_error(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "data.zip", {"a.png": os.urandom(5000)})
    damaged = bytearray(archive.read_bytes())
    damaged[2000] ^= 255
    archive.write_bytes(damaged)
    with pytest.raises(UnreadableArchive, match="cannot unpack"):
        unpack([archive], tmp_path / "out", "1")


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    ("bytes_", "reason"),
    [
        (b"<!DOCTYPE html><html>Too many requests</html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "the file is empty"),
        (b"something else" * 100, "damaged or incomplete"),
    ],
)
def test_what_is_no_archive_says_what_it_is(form: str, bytes_: bytes, reason: str, tmp_path: Path) -> None:
    archive = tmp_path / f"data.{form}"
    archive.write_bytes(bytes_)
    with pytest.raises(UnreadableArchive, match=reason):
        unpack([archive], tmp_path / "out", "1")


def test_an_encrypted_archive_says_so(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "data.zip", {"a.png": b"secret"})
    marked = bytearray(archive.read_bytes())
    marked[6] |= 1
    marked[marked.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(marked)
    with pytest.raises(UnreadableArchive, match=r"'a\.png' needs a password"):
        unpack([archive], tmp_path / "out", "1")


@pytest.mark.parametrize("form", ["zip", "tar.xz"])
def test_unpacking_goes_on_after_a_kill(form: str, tmp_path: Path) -> None:
    archive = make(tmp_path / f"data.{form}", FILES)
    script = (
        "import pathlib, shutil, sys, time\n"
        "from adcommon.data.prepare import archives\n"
        "copy, calls = shutil.copyfileobj, []\n"
        "def slow(source, target, length):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2:\n"
        "        target.write(b'half'); target.flush(); print('now', flush=True); time.sleep(60)\n"
        "    copy(source, target, length)\n"
        "shutil.copyfileobj = slow\n"
        "archives.unpack([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), '1')\n"
    )
    command = [sys.executable, "-c", script, str(archive), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    first = tmp_path / "out/a/train/0.png"
    assert [path.name for path in (tmp_path / "out").rglob("*.png")] == ["0.png"]
    written = first.stat().st_mtime_ns
    unpack([archive], tmp_path / "out", "1")
    assert content(tmp_path / "out") == FILES
    assert first.stat().st_mtime_ns == written


@settings(max_examples=60)
@given(names=st.lists(NAMES, min_size=1, max_size=4), form=st.sampled_from(["zip", "tar"]))
@example(names=["\0\x80"], form="tar")
def test_whatever_an_archive_names_nothing_appears_outside(names: list[str], form: str) -> None:
    if form == "zip":  # Python's writer ends a name at a zero byte and cannot write what is empty then
        names = [name for name in names if not name.startswith("\0")]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of duplicates
        inside = Path(folder) / "in/side"
        inside.mkdir(parents=True)
        archive = Path(folder) / f"data.{form}"
        make(archive, {name: name.encode() for name in names})
        try:
            unpack([archive], inside / "out", "1")
        except UnreadableArchive:
            assert not (inside / "out").exists()
        else:
            assert set(content(inside / "out").values()) <= {name.encode() for name in names}
        assert [path.name for path in (Path(folder) / "in").iterdir()] == ["side"]
        assert {path.name for path in inside.iterdir()} <= {"out"}
        assert {path.name for path in Path(folder).iterdir()} == {"in", archive.name}


def test_what_another_archive_left_is_not_kept(tmp_path: Path) -> None:
    unpack([make_zip(tmp_path / "1.zip", {"a.png": b"old!", "b.png": b"old"})], tmp_path / "out", "1")
    unpack([make_zip(tmp_path / "2.zip", {"a.png": b"new!"})], tmp_path / "out", "2")
    assert content(tmp_path / "out") == {"a.png": b"new!"}


def test_sha256_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_somebody_elses_is_neither_deleted_nor_mixed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputExists, match="holds files that no run of this product wrote"):
        unpack([make_zip(tmp_path / "1.zip", FILES)], tmp_path / "out", "1")
    assert content(tmp_path / "out") == {"mine.txt": b"mine"}
