import dataclasses
import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from adcommon.cli import main as cli
from adcommon.data.catalog import DATASETS
from adcommon.data.prepare.build import MANIFEST
from adcommon.data.prepare.command import PREPARERS, Request, prepare
from adcommon.errors import BadValue, ChecksumMismatch, DatasetNotFound, OutputExists, UnreadableArchive
from adcommon.testing.downloads import draw_mask, make_download


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `ad prepare`."""
    monkeypatch.setattr(sys, "argv", ["ad", "prepare", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("flags", [("--source", "--target"), ("--data-folder", "--save-folder")])
def test_both_spellings_prepare_and_print_the_counts(
    flags: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = make_download("ksdd", tmp_path / "raw")
    assert run(monkeypatch, "ksdd", flags[0], raw, flags[1], tmp_path / "out", "--workers", 2) == 0
    assert "SDD/test/defect: 2" in capsys.readouterr().out
    assert (tmp_path / "out" / MANIFEST).is_file()


def test_options_of_a_dataset_are_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_download("mnist", tmp_path / "raw")
    arguments = ("--source", raw, "--target", tmp_path / "out", "--category", "3", "even", "--dry-run")
    assert run(monkeypatch, "mnist", *arguments) == 0
    shown = capsys.readouterr().out
    assert "3/train/good: 4" in shown
    assert "even/train/good: 20" in shown
    assert not (tmp_path / "out").exists()


def test_own_annotations_are_prepared_under_the_name_of_their_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_download("coco", tmp_path / "raw/export")
    arguments = ("coco", "--source", raw.parent, "--target", tmp_path / "out")
    assert run(monkeypatch, *arguments, "--ignore", "dent") == 2
    assert "--ignore dent: no such category" in capsys.readouterr().err
    assert run(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    assert "scratch: 2" in shown
    assert "4 images without annotations count as normal" in shown


def test_a_users_mistake_is_one_message_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "aitex", "--source", tmp_path / "nowhere", "--target", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "no such file or folder" in message
    assert "https://www.aitex.es/afid/" in message


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"source": ()}, "give either --source"),
        ({"source": (Path("a"),), "from_package": True}, "give either --source"),
        ({"source": (Path("a"),), "workers": 0}, "workers is 0"),
    ],
)
def test_contradictory_flags_are_refused(request_: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=message):
        Request(target=tmp_path, **request_)  # type: ignore[arg-type]


def test_sources_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    raw = make_download("ksdd", tmp_path / "raw")
    (tmp_path / "data.rar").write_bytes(b"Rar!")
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", raw))
    for sources, link, message in (
        ((tmp_path / "data.rar",), "copy", "neither a folder nor an archive that can be unpacked"),
        ((raw, archive), "copy", "one folder, or one or more archives"),
        ((archive,), "symlink", "--link symlink needs a folder"),
    ):
        with pytest.raises(BadValue, match=message):
            prepare("ksdd", PREPARERS["ksdd"], Request(source=sources, target=tmp_path / "out", link=link))  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="ksdd is in no Python package"):
        prepare("ksdd", PREPARERS["ksdd"], Request(target=tmp_path / "out", from_package=True))


def test_an_official_archive_must_have_the_official_checksum(tmp_path: Path) -> None:
    raw = make_download("ksdd", tmp_path / "raw")
    archive = Path(shutil.make_archive(str(tmp_path / "KolektorSDD"), "zip", raw))
    expected = DATASETS["ksdd"].archives["KolektorSDD.zip"]
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(ChecksumMismatch, match=rf"SHA-256 is {found}, expected {expected}(.|\n)*--no-verify"):
        prepare("ksdd", PREPARERS["ksdd"], Request(source=(archive,), target=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    prepare("ksdd", PREPARERS["ksdd"], Request(source=(archive,), target=tmp_path / "out", verify=False))
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["archives"] == {archive.name: found}


def test_four_archives_are_one_download(tmp_path: Path) -> None:
    raw = make_download("isic2018", tmp_path / "raw")
    archives = tuple(
        Path(shutil.make_archive(str(tmp_path / folder.name), "zip", raw, folder.name))
        for folder in sorted(raw.iterdir())
    )
    assert len(archives) == 4
    prepare("isic2018", PREPARERS["isic2018"], Request(source=archives, target=tmp_path / "out"))
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 5


def test_what_was_unpacked_of_a_wrong_archive_is_removed(tmp_path: Path) -> None:
    raw = make_download("ksdd", tmp_path / "raw")
    good = (raw / "kos02/Part0_label.bmp").read_bytes()
    draw_mask(raw / "kos02/Part0_label.bmp", (0, 0, 0, 0), size=(9, 10))
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "tar", raw))
    request = Request(source=(archive,), target=tmp_path / "place/out")
    with pytest.raises(ValueError, match="its label"):
        prepare("ksdd", PREPARERS["ksdd"], request)
    assert list((tmp_path / "place").iterdir()) == []
    (raw / "kos02/Part0_label.bmp").write_bytes(good)
    shutil.make_archive(str(tmp_path / "data"), "tar", raw)
    prepare("ksdd", PREPARERS["ksdd"], request)
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["out"]


def test_an_archive_is_unpacked_again_if_its_tree_lost_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_download("mvtec", tmp_path / "raw")
    request = Request(
        source=(Path(shutil.make_archive(str(tmp_path / "data"), "zip", raw)),), target=tmp_path / "out"
    )
    prepare("mvtec", PREPARERS["mvtec"], request)
    (tmp_path / "out/bottle/train/good/000.png").unlink()
    with pytest.raises(OutputExists, match="--force"):
        prepare("mvtec", PREPARERS["mvtec"], request)
    prepare("mvtec", PREPARERS["mvtec"], dataclasses.replace(request, force=True))
    assert (tmp_path / "out/bottle/train/good/000.png").is_file()
    assert "already prepared" not in capsys.readouterr().out


def test_what_was_unpacked_becomes_the_tree_without_a_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = make_download("mvtec", tmp_path / "raw")
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", raw))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", lambda source, target: pytest.fail("copied"))
        prepare("mvtec", PREPARERS["mvtec"], Request(source=(archive,), target=tmp_path / "out"))
    image = tmp_path / "out/bottle/train/good/000.png"
    assert image.read_bytes() == (raw / "bottle/train/good/000.png").read_bytes()
    assert image.stat().st_nlink == 1


def test_where_links_are_impossible_or_would_be_shared_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", make_download("cifar10", tmp_path / "c")))
    prepare("cifar10", PREPARERS["cifar10"], Request(source=(archive,), target=tmp_path / "cifar"))
    assert {path.stat().st_nlink for path in (tmp_path / "cifar").rglob("*.png")} == {1}

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(1, "no links on this disk")

    archive = Path(shutil.make_archive(str(tmp_path / "b"), "zip", make_download("mvtec", tmp_path / "m")))
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    prepare("mvtec", PREPARERS["mvtec"], Request(source=(archive,), target=tmp_path / "mvtec"))
    assert (tmp_path / "mvtec/bottle/train/good/000.png").is_file()


def test_hard_links_survive_the_unpacked_archive(tmp_path: Path) -> None:
    raw = make_download("mvtec", tmp_path / "raw")
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", raw))
    prepare("mvtec", PREPARERS["mvtec"], Request(source=(archive,), target=tmp_path / "out", link="hard"))
    assert (tmp_path / "out/bottle/train/good/000.png").read_bytes() == (
        raw / "bottle/train/good/000.png"
    ).read_bytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>Sign in</html>", "HTML page"), (b"version https://git-lfs", "git lfs pull")],
)
def test_a_failed_download_is_recognised(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(content)
    with pytest.raises(UnreadableArchive, match=reason):
        prepare("ksdd", PREPARERS["ksdd"], Request(source=(tmp_path / "data.zip",), target=tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["data.zip"]


def test_an_archive_of_something_else_says_what_was_expected(tmp_path: Path) -> None:
    archive = Path(
        shutil.make_archive(str(tmp_path / "data"), "zip", make_download("textile", tmp_path / "raw"))
    )
    with pytest.raises(DatasetNotFound, match=r"not the download of KolektorSDD(.|\n)*Official page"):
        prepare("ksdd", PREPARERS["ksdd"], Request(source=(archive,), target=tmp_path / "out"))
