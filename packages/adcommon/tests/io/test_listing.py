import os
from pathlib import Path

import pytest

from adcommon.io.files import mark
from adcommon.io.listing import describe, list_tree, printable


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_images_at_any_depth_are_sorted_by_path(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/2.JPG", "a/deep/er/1.tiff", "a.png", "Z.bmp", "a/10.jpg")
    found = [path.relative_to(tmp_path).as_posix() for path in list_tree(tmp_path).images]
    assert found == ["Z.bmp", "a.png", "a/10.jpg", "a/2.JPG", "a/deep/er/1.tiff", "b.png"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("photo.ORF", "unknown kind, .orf"),
        ("masks.npy", "unknown kind, .npy"),
        ("photo", "unknown kind, without a suffix"),
        (".photo.png", "hidden or system"),
        ("Thumbs.db", "hidden or system"),
        (".git/photo.png", "hidden or system"),
        ("__MACOSX/photo.png", "hidden or system"),
        ("@eaDir/photo.png", "hidden or system"),
    ],
)
def test_what_is_passed_over_has_a_reason(tmp_path: Path, name: str, reason: str) -> None:
    touch(tmp_path, name)
    listing = list_tree(tmp_path)
    assert listing.images == []
    assert [reason in text for text in listing.passed_over] == [True]
    assert f"1 {next(iter(listing.passed_over))}: {tmp_path}" in describe(listing.passed_over)


@pytest.mark.parametrize("name", ["labels.csv", "LICENSE", "readme", "README.rst", "meta.json", "notes.txt"])
def test_what_lies_beside_images_everywhere_needs_no_word(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    mark(tmp_path)
    assert list_tree(tmp_path).passed_over == {}
    assert describe({}) == ""


def test_links_are_not_followed_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    (tmp_path / "a/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "a/1.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    listing = list_tree(tmp_path)
    assert [path.name for path in listing.images] == ["2.png", "1.png"]
    counts = {reason.split(",")[0]: len(paths) for reason, paths in listing.passed_over.items()}
    assert counts == {
        "links that lead nowhere": 2,
        "links to folders": 1,
        "names of images that are no regular files": 1,
    }


def test_folders_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "open/1.png", "shut/2.png")
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # rights do not stop the user root, whom tests may run as
    listing = list_tree(tmp_path)
    assert [path.name for path in listing.images] == ["1.png"]
    assert listing.passed_over == {"folders that cannot be read": [tmp_path / "shut"]}


@pytest.mark.parametrize("result", ["recipe.yaml", "results.json", "predictions.csv"])
def test_the_pictures_of_a_run_are_no_images_to_read(tmp_path: Path, result: str) -> None:
    touch(tmp_path, "a.png", "pred/maps/b.png", f"pred/{result}", "prepared/c.png")
    mark(tmp_path / "pred")
    mark(tmp_path / "prepared")
    listing = list_tree(tmp_path)
    assert [path.name for path in listing.images] == ["a.png", "c.png"]
    assert listing.passed_over == {"folders that this product wrote": [tmp_path / "pred"]}


@pytest.mark.parametrize(("without", "left"), [("out", ["a"]), ("out/deep", ["a", "b"]), (".", [])])
def test_a_folder_can_be_left_out(tmp_path: Path, without: str, left: list[str]) -> None:
    touch(tmp_path, "a.png", "out/b.png", "out/deep/c.png")
    assert [path.stem for path in list_tree(tmp_path, without=[tmp_path / without]).images] == left


def test_names_that_are_not_utf_8_can_be_written() -> None:
    assert printable(Path(os.fsdecode(b"caf\xe9.png"))) == r"caf\xe9.png"
    assert printable(Path("café.png")) == "café.png"


def test_only_the_first_names_are_shown() -> None:
    assert describe({"files": [Path(name) for name in "abcde"]}) == "5 files: a, b, c, ..."
