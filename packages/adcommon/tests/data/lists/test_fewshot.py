import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcommon.data.lists.fewshot import (
    draw_references,
    read_references,
    write_references,
)
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit
from adcommon.testing.trees import make_folder
from adcommon.types.records import Record

RECORDS = [Record(Path(f"{index:02d}.png"), "nut", int(index % 5 == 4)) for index in range(25)]


@settings(max_examples=30)
@given(shots=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_references_are_different_normal_images_and_more_shots_extend_fewer(shots: int, seed: int) -> None:
    drawn = draw_references(RECORDS, shots, seed=seed)
    assert len(set(drawn)) == shots
    assert set(drawn) <= {record.image for record in RECORDS if record.label == 0}
    assert draw_references(RECORDS, 20, seed=seed)[:shots] == drawn


def test_the_seed_changes_the_draw() -> None:
    assert draw_references(RECORDS, 8, seed=0) != draw_references(RECORDS, 8, seed=1)


def test_references_come_from_a_folder_too(tmp_path: Path) -> None:
    make_folder(tmp_path, good=5)
    assert sorted(draw_references(tmp_path / "good", 5, seed=0)) == sorted((tmp_path / "good").iterdir())


def test_a_folder_of_references_is_read_at_any_depth_and_holds_nothing_else(tmp_path: Path) -> None:
    make_folder(tmp_path / "lot/2", good=3)
    (tmp_path / "lot/2/good").rename(tmp_path / "lot/3")
    assert len(draw_references(tmp_path / "lot", 3, seed=0)) == 3
    (tmp_path / "lot/3").rename(tmp_path / "lot/Defective")
    with pytest.raises(BadValue, match=r"lot holds Defective, whose images are not normal"):
        draw_references(tmp_path / "lot", 3, seed=0)


def test_impossible_draws_say_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=": 20, and shots is 21; use"):
        draw_references(RECORDS, 21, seed=0)
    with pytest.raises(BadValue, match="use --shots 20, or fewer"):
        draw_references(RECORDS, 0, seed=0)
    with pytest.raises(EmptySplit, match="no normal images"):
        draw_references(tmp_path, 1, seed=0)


def test_a_list_is_read_back_in_its_order(tmp_path: Path) -> None:
    make_folder(tmp_path, good=6)
    drawn = draw_references(tmp_path / "good", 4, seed=3)
    write_references(tmp_path / "list.txt", drawn, tmp_path)
    assert read_references(tmp_path / "list.txt", tmp_path) == drawn
    with (tmp_path / "list.txt").open("a") as file:
        file.write("\n# a comment\n")
    assert read_references(tmp_path / "list.txt", tmp_path) == drawn


def test_wrong_lists_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"no list of reference images at .*list\.txt"):
        read_references(tmp_path / "list.txt", tmp_path)
    (tmp_path / "list.txt").write_text("good/000.png\n")
    with pytest.raises(
        DatasetNotFound, match=r"1 of 1 images named in .* are missing; the first is .*000\.png"
    ):
        read_references(tmp_path / "list.txt", tmp_path)
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(EmptySplit, match="names no images"):
        read_references(tmp_path / "list.txt", tmp_path)
    (tmp_path / "list.txt").write_text("\n../good/000.png\n")
    with pytest.raises(BadValue, match=r"list\.txt, line 2: the path .* leaves the folder"):
        read_references(tmp_path / "list.txt", tmp_path)
    with pytest.raises(BadValue, match="cannot hold its name"):
        write_references(tmp_path / "list.txt", [tmp_path / "a\nb.png"], tmp_path)


@pytest.mark.parametrize("name", ["a b.png", "ü'\"#.png", os.fsdecode(b"\xff.png")])
def test_unusual_names_are_read_back_also_of_images_elsewhere(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    for root in (tmp_path, tmp_path / "other"):
        write_references(tmp_path / "list.txt", [tmp_path / name], root)
        assert read_references(tmp_path / "list.txt", root) == [tmp_path / name]
