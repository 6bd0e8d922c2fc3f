from pathlib import Path

import pytest

from adcommon.errors import OutputExists
from adcommon.io.files import MARKER, mark
from adcommon.io.lock import locked
from adcommon.io.outputs import clear, refuse_held
from adcommon.testing.surroundings import untouched

WRITTEN = ("table.csv", "maps")


def refuse(folder: Path, *, wanted: bool = False) -> None:
    refuse_held(folder, WRITTEN, wanted=wanted, remedy="Use --force")


def test_a_new_an_empty_and_a_locked_folder_are_taken(tmp_path: Path) -> None:
    refuse(tmp_path / "new")
    refuse(tmp_path)
    with locked(tmp_path):
        refuse(tmp_path)
    assert not (tmp_path / "new").exists()


def test_what_the_same_command_wrote_is_kept_or_deleted_as_the_user_says(tmp_path: Path) -> None:
    mark(tmp_path)
    for name in ("table.csv", "maps/a/1.png", "maps/b.png", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    with pytest.raises(OutputExists, match=r"is not empty\. Use --force, or choose another"):
        refuse(tmp_path)
    refuse(tmp_path, wanted=True)
    clear(tmp_path, WRITTEN)
    assert {path.name for path in tmp_path.iterdir()} == {MARKER, ".hidden"}


@pytest.mark.parametrize("marked", [True, False])
def test_what_anybody_else_wrote_stays(tmp_path: Path, marked: bool) -> None:
    if marked:
        mark(tmp_path)
    (tmp_path / "results.json").write_text("of another command")
    for wanted in (True, False):
        with untouched(tmp_path), pytest.raises(OutputExists, match="choose another --out"):
            refuse(tmp_path, wanted=wanted)


def test_a_link_is_deleted_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "a.txt").write_text("kept")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "maps").symlink_to(tmp_path / "victim")
    with untouched(tmp_path / "victim"):
        clear(tmp_path / "out", WRITTEN)
    assert not (tmp_path / "out" / "maps").is_symlink()
