from pathlib import Path

import pytest

from adcommon.data.sources.meaning import NOTHING, Meaning
from adcommon.errors import BadValue


@pytest.mark.parametrize(
    ("name", "folder", "matches"),
    [
        ("intact", ("bolt", "intact"), True),
        ("Intact/", ("bolt", "intact"), True),
        ("bolt/intact", ("bolt", "intact"), True),
        ("./bolt/intact", ("bolt", "intact"), True),
        ("test/intact", ("bolt", "test", "intact"), True),
        ("train/intact", ("bolt", "test", "intact"), False),
        ("tact", ("bolt", "intact"), False),
        (".", ("bolt",), True),
        (".", ("bolt", "intact"), False),
    ],
)
def test_a_folder_is_named_or_given_by_its_path(name: str, folder: tuple[str, ...], matches: bool) -> None:
    assert (Meaning(good=(name,)).of(folder, ("bolt",)) == "good") is matches


def test_a_folder_cannot_be_two_things() -> None:
    with pytest.raises(BadValue, match="--good and --masks both name the folder bolt/x"):
        Meaning(good=("x",), masks=("bolt/x",)).of(("bolt", "x"))


def test_paths_that_a_shell_completes_are_taken_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data/parts/fine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    given = Meaning(good=("data/parts/fine/", "fine", "nowhere/x"))
    assert given.relative_to(tmp_path / "data/parts").good == ("fine", "fine", "nowhere/x")


def test_nothing_is_said_of_known_datasets() -> None:
    said = Meaning(bad=("x",))
    assert said.on("folder", "mvtec") is said
    assert said.on("mvtec", "folder") is NOTHING
    assert said.on("mvtec", "visa") is said
    NOTHING.refuse_for("lists")
    with pytest.raises(BadValue, match="not for lists"):
        said.refuse_for("lists")
