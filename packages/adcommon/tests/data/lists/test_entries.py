from pathlib import Path

import numpy as np
import pytest

from adcommon.data.lists.entries import Entry, listed_masks, listed_path, to_records, to_splits
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit
from adcommon.io.images import open_mask
from adcommon.testing.trees import make_mvtec


def entry(image: str, label: int = 0, masks: tuple[str, ...] = (), split: str = "test") -> Entry:
    return Entry("list, line 1", image, "nut", label, "bent" if label else "good", masks, split)  # type: ignore[arg-type]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_mvtec(tmp_path / "data", categories=("nut",))


def test_paths_begin_at_the_first_folder_that_has_them(tree: Path, tmp_path: Path) -> None:
    image = "nut/train/good/000.png"
    (record,) = to_records([entry(image)], [tmp_path, tree])
    assert record.image == tree / image
    (record,) = to_records([entry(image)], [tree, tree / "nut/.."])
    assert record.image == tree / image
    (record,) = to_records([entry(str(tree / image))], [tmp_path])
    assert record.image == tree / image


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../x.png", "leaves the folder"),
        ("a/../../x.png", "leaves the folder"),
        ("", "is no path"),
        ("a\0b", "is no path"),
    ],
)
def test_what_climbs_out_or_is_no_path_is_refused(tree: Path, name: str, message: str) -> None:
    (tree.parent / "x.png").write_bytes(b"")
    with pytest.raises(BadValue, match=f"list, line 1: .*{message}"):
        to_records([entry(name)], [tree])


@pytest.mark.parametrize(
    "name", ["nowhere.png", "nut", "/nowhere.png", "x" * 5000, "nut/train/good/000.png/x"]
)
def test_what_is_no_file_is_missing(tree: Path, name: str) -> None:
    with pytest.raises(DatasetNotFound, match="1 images that a list names are not there"):
        to_records([entry(name)], [tree])


def test_all_missing_images_are_counted(tree: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"8 images(.|\n)*0\.jpg(.|\n)*4\.jpg\n  and 3 more"):
        to_records([entry(f"{number}.jpg") for number in range(8)], [tree])


def test_masks_that_fill_a_folder_are_that_folder(tree: Path) -> None:
    image, masks = "nut/test/spot/000.png", sorted((tree / "nut/ground_truth/spot").iterdir())
    names = tuple(mask.relative_to(tree).as_posix() for mask in masks)
    (record,) = to_records([entry(image, 1, names)], [tree])
    assert record.mask == tree / "nut/ground_truth/spot"
    assert listed_masks(record.mask, tree) == names


def test_other_masks_in_parts_are_joined_all_the_same(tree: Path) -> None:
    masks = sorted((tree / "nut/ground_truth/spot").iterdir())[:2]
    names = tuple(mask.relative_to(tree).as_posix() for mask in masks)
    (record,) = to_records([entry("nut/test/spot/000.png", 1, names)], [tree])
    assert record.mask is not None
    np.testing.assert_array_equal(open_mask(record.mask), open_mask(masks[0]) | open_mask(masks[1]))
    assert len(listed_masks(record.mask, tree)) == 2


def test_without_a_mask_there_is_no_pixel_truth(tree: Path) -> None:
    entries = [entry("nut/test/spot/000.png", 1), entry("nut/test/good/000.png")]
    assert [record.mask for record in to_records(entries, [tree])] == [None, None]


def test_entries_become_categories_and_splits_in_their_order(tree: Path) -> None:
    names = [f"nut/train/good/{number:03d}.png" for number in (4, 0, 2)]
    splits = to_splits(
        [*(entry(name, split="train") for name in names), entry("nut/test/spot/000.png", 1)], [tree]
    )
    assert [record.image for record in splits["nut"].train] == [tree / name for name in names]
    assert len(splits["nut"].test) == 1
    with pytest.raises(BadValue, match="list, line 1: an anomalous image cannot train"):
        to_splits([entry("nut/test/spot/000.png", 1, split="train")], [tree])
    with pytest.raises(EmptySplit, match="names no images"):
        to_splits([], [tree])


def test_what_lies_elsewhere_is_listed_by_its_absolute_path(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    assert listed_path(Path("nut/a.png"), tree) == "nut/a.png"
    assert listed_path(Path("nut/a.png"), tree / "bolt") == f"{tree.as_posix()}/nut/a.png"
    assert listed_path(Path("nut/a.png"), None) == "nut/a.png"
