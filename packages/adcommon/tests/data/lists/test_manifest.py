import csv
import io
import json
import os
import random
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adcommon.data import load_splits
from adcommon.data.lists.manifest import (
    Form,
    of_categories,
    read_lines,
    read_manifest,
    read_records,
    write_manifest,
)
from adcommon.errors import BadValue, DatasetNotFound, UnknownName
from adcommon.testing.trees import make_mvtec
from adcommon.types.names import as_name
from adcommon.types.records import Record, Split

NAMES = st.text(
    st.characters(blacklist_characters="/\\\0", blacklist_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda name: name.strip() == name and name.strip(".") and len(name.encode()) < 100)

FOLDERS = NAMES.map(as_name)
"""Names of categories and defects."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_mvtec(tmp_path / "data", defects=("spot", "stain"))


@pytest.fixture
def splits(tree: Path) -> dict[str, Split]:
    return load_splits("folder", tree)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def without_masks(splits: dict[str, Split]) -> dict[str, Split]:
    def bare(records: list[Record]) -> list[Record]:
        return [Record(record.image, record.category, record.label, record.defect) for record in records]

    return {name: Split(bare(split.train), bare(split.test)) for name, split in splits.items()}


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("place", ["beside", "elsewhere", "absolute"])
def test_what_is_written_is_read_back(
    tree: Path, splits: dict[str, Split], tmp_path: Path, form: Form, place: str
) -> None:
    folder = tree if place == "beside" else tmp_path / "lists"
    written = write_manifest(form, folder, splits, tmp_path / "other" if place == "absolute" else tree)
    assert all(path.is_file() for path in written)
    read = read_manifest(folder, tree if place == "elsewhere" else None)
    assert read == (without_masks(splits) if form == "inctrl" else splits)
    assert list(read) == list(splits)


@settings(max_examples=40)
@given(data=st.data(), form=st.sampled_from(get_args(Form)))
def test_any_names_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, form: Form
) -> None:
    root = tmp_path_factory.mktemp("tree")
    splits = {}
    for category in data.draw(st.lists(FOLDERS, min_size=1, max_size=2, unique_by=str.casefold)):
        names = data.draw(st.lists(NAMES, min_size=4, max_size=4, unique_by=str.casefold))
        images = [
            root / f"c-{category}" / split / f"i-{name}.png"
            for split, name in zip("abcd", names, strict=True)
        ]
        for image in images:
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"")
        defect = (
            images[2].parent.name
            if form == "inctrl"
            else data.draw(FOLDERS.filter(lambda name: name != "good"))
        )
        splits[category] = Split(
            [Record(images[0], category, 0)],
            [
                Record(images[1], category, 0),
                Record(images[2], category, 1, defect, None if form == "inctrl" else images[3]),
            ],
        )
    write_manifest(form, root / "lists", splits, root)
    assert read_manifest(root / "lists", root) == splits


def test_lines_are_named_as_each_paper_names_them(
    tree: Path, splits: dict[str, Split], tmp_path: Path
) -> None:
    write_manifest("lines", tmp_path / "uniad", splits, tree)
    assert names(tmp_path / "uniad") == ["test.json", "train.json"]
    write_manifest("lines", tmp_path / "realnet", splits, tree, per_category=True)
    expected = [f"{part}_{name}.json" for part in ("test", "train") for name in ("alpha", "beta", "uni")]
    assert names(tmp_path / "realnet") == expected
    uniad = read_lines(tmp_path / "uniad/train.json", tmp_path / "uniad/test.json", tree)
    realnet = read_lines(tmp_path / "realnet/train_uni.json", tmp_path / "realnet/test_uni.json", tree)
    assert uniad == realnet == splits
    alpha = read_lines(tmp_path / "realnet/train_alpha.json", tmp_path / "realnet/test_alpha.json", tree)
    assert alpha == {"alpha": splits["alpha"]}
    assert read_lines(None, tmp_path / "realnet/test_alpha.json", tree)["alpha"].train == []


def test_a_missing_mask_is_no_pixel_truth(tree: Path, tmp_path: Path) -> None:
    line = {"filename": "alpha/test/spot/000.png", "label": 1, "label_name": "defective"}
    (tmp_path / "test.json").write_text(json.dumps(line))
    assert not read_lines(None, tmp_path / "test.json", tree)["alpha"].pixel_truth
    (record,) = read_records([tmp_path / "test.json"], tree)
    assert record.mask is None


def test_the_image_folder_goes_before_the_folder_of_the_list(tree: Path, tmp_path: Path) -> None:
    other = make_mvtec(tmp_path / "other", defects=("spot", "stain"), seed=1)
    splits = load_splits("folder", tree)
    train, test = write_manifest("lines", other, splits, tree)
    assert read_lines(train, test, tree) == splits
    assert read_lines(train, test)["alpha"].train[0].image.is_relative_to(other)


def test_inctrl_has_four_lists_whose_auxiliary_ones_begin_with_training_images(
    tree: Path, splits: dict[str, Split], tmp_path: Path
) -> None:
    write_manifest("inctrl", tmp_path / "lists", splits, None)
    parts = ("normal", "outlier", "val_normal", "val_outlier")
    expected = sorted(f"{name}_{part}.json" for name in splits for part in parts)
    assert names(tmp_path / "lists") == expected
    items = {part: json.loads((tmp_path / f"lists/alpha_{part}.json").read_text()) for part in parts}
    assert {tuple(item) for part in parts for item in items[part]} == {("image_path", "target", "type")}
    good = [record.image.as_posix() for record in splits["alpha"].test if record.label == 0]
    train = [record.image.as_posix() for record in splits["alpha"].train]
    assert [item["image_path"] for item in items["normal"]] == train + good
    assert [item["image_path"] for item in items["val_normal"]] == good
    assert items["outlier"] == items["val_outlier"]
    assert {item["target"] for item in items["outlier"]} == {1}


def test_both_names_of_inctrls_training_list_are_read(
    tree: Path, splits: dict[str, Split], tmp_path: Path
) -> None:
    write_manifest("inctrl", tmp_path / "lists", splits, tree)
    for name in splits:
        (tmp_path / f"lists/{name}_normal.json").rename(tmp_path / f"lists/{name}_train_normal.json")
    assert read_manifest(tmp_path / "lists", tree) == without_masks(splits)


def test_single_lists_of_either_form_are_records(
    tree: Path, splits: dict[str, Split], tmp_path: Path
) -> None:
    write_manifest("inctrl", tmp_path / "lists", splits, tree)
    lists = [tmp_path / f"lists/{name}_outlier.json" for name in splits]
    anomalous = [record for split in splits.values() for record in split.test if record.label == 1]
    assert [record.image for record in read_records(lists, tree)] == [record.image for record in anomalous]
    _, test = write_manifest("lines", tmp_path / "lists", splits, tree)
    tested = [record for split in splits.values() for record in split.test]
    assert read_records([test], tree) == tested


def test_a_single_list_without_a_split_is_divided(
    tree: Path, splits: dict[str, Split], tmp_path: Path
) -> None:
    train, test = write_manifest("lines", tree, splits, tree)
    whole = tree / "all.json"
    whole.write_text(train.read_text() + test.read_text())
    lines = read_manifest(whole)
    array = tree / "all_array.json"
    items = [json.loads(line) for line in whole.read_text().splitlines()]
    fields = {"filename": "image_path", "label": "target", "clsname": "type"}
    array.write_text(json.dumps([{new: item[old] for old, new in fields.items()} for item in items]))
    assert read_manifest(array) == without_masks(lines)
    for name, split in splits.items():
        normal = [record for record in (*split.train, *split.test) if record.label == 0]
        assert len(lines[name].train) == len(normal) - -(-len(normal) // 4)
        anomalous = {record.image for record in split.test if record.label == 1}
        assert {record.image for record in lines[name].test} >= anomalous


def test_paths_as_given_on_the_command_line_are_read_from_the_same_place(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    splits = load_splits("folder", Path("data"))
    write_manifest("inctrl", tmp_path / "lists/deep", splits, None)
    assert read_manifest(tmp_path / "lists/deep") == without_masks(splits)


def test_the_order_of_a_list_is_kept(tree: Path, splits: dict[str, Split], tmp_path: Path) -> None:
    train, test = write_manifest("lines", tmp_path, splits, tree)
    lines = train.read_text().splitlines()
    random.Random(0).shuffle(lines)
    train.write_text("\n".join(lines))
    named = [tree / json.loads(line)["filename"] for line in lines]
    for category, split in read_lines(train, test, tree).items():
        expected = [path for path in named if path.is_relative_to(tree / category)]
        assert [record.image for record in split.train] == expected


def test_where_there_is_no_list_the_forms_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetNotFound, match=r"no list of images in(.|\n)*meta\.json(.|\n)*_val_normal\.json"
    ):
        read_manifest(tmp_path)


@pytest.mark.parametrize("form", get_args(Form))
def test_names_that_are_no_text_come_back_from_every_list(tmp_path: Path, form: Form) -> None:
    image = tmp_path / os.fsdecode(b"a\xff.png")
    image.write_bytes(b"")
    splits = {"nut": Split([Record(image, "nut", 0)], [])}
    written = write_manifest(form, tmp_path / "lists", splits, tmp_path)
    assert read_records([written[0]], tmp_path)[0].image == image if form != "ader" else True


def test_categories_come_in_the_order_in_which_they_are_named(splits: dict[str, Split]) -> None:
    assert list(of_categories(splits, (), "here")) == ["alpha", "beta"]
    assert list(of_categories(splits, ("beta", "alpha"), "here")) == ["beta", "alpha"]
    with pytest.raises(UnknownName, match="category in here: 'alpah'; did you mean 'alpha'"):
        of_categories(splits, ("alpah",), "here")


HOSTILE = [
    "../../../victim",
    "/abs/dir",
    "..",
    ".",
    " ",
    "a\\b",
    "C:",
    "a\nb",
    "x" * 300,
    "results.json",
    "model",
    "nul",
]


def listed(form: Form, category: str, defect: str) -> tuple[str, str]:
    """A list of one anomalous image, and the name of its file."""
    image = "img/001.png"
    if form == "csv":
        file = io.StringIO(newline="")
        csv.writer(file).writerows(
            [["image", "label", "category", "defect"], [image, 1, category or " ", defect]]
        )
        return "manifest.csv", file.getvalue()
    if form == "lines":
        item = {"filename": image, "label": 1, "label_name": defect, "clsname": category}
        return "test.jsonl", json.dumps(item)
    if form == "inctrl":
        return "x.json", json.dumps([{"image_path": image, "target": 1, "type": category}])
    item = {"img_path": image, "cls_name": category, "specie_name": defect, "anomaly": 1}
    return "meta.json", json.dumps({"test": {"x": [item]}})


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("what", ["category", "defect"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_elsewhere_is_refused_with_its_line(
    tmp_path: Path, form: Form, what: str, name: str
) -> None:
    if what == "defect" and (form == "inctrl" or name in ("results.json", "model", " ")):
        return  # no place for a defect, no folder that a run needs, or nothing said
    if what == "category" and form == "csv" and name == " ":
        return  # the folder's name
    file, text = listed(form, name if what == "category" else "nut", name if what == "defect" else "bent")
    (tmp_path / file).write_text(text, newline="")
    with pytest.raises(BadValue, match=rf"{file}, line \d+: the {what} .*rename it"):
        load_splits("folder", tmp_path / file)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,,,Nut,\nb.png,,,nut,", "categories 'Nut' and 'nut' are one folder"),
        ("a.png,1,test,nut,Bent\nb.png,1,test,nut,bent", "defects 'Bent' and 'bent' are one folder"),
        ("a.png,1,test,nut,good", "line 2: an anomalous image whose defect is 'good'"),
        ("a.png,0,train,nut,\n./a.png,0,test,nut,", r"line 3: \./a\.png stands in .*, line 2 too"),
        ("a.png,0,test,nut,\na.png,1,test,nut,bent", "line 3: a.png stands in"),
        ("a.png,,,nut,\na.png,,,nut,", "would train and test"),
    ],
)
def test_lines_that_contradict_each_other_are_refused_before_files_are_looked_for(
    tmp_path: Path, rows: str, message: str
) -> None:
    (tmp_path / "manifest.csv").write_text(f"image,label,split,category,defect\n{rows}\n")
    with pytest.raises(BadValue, match=message):
        load_splits("folder", tmp_path)


def test_an_image_that_is_listed_twice_is_said(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = "alpha/test/spot/000.png,1,test\n"
    (tree / "list.csv").write_text(f"image,label,split\nalpha/train/good/000.png,0,train\n{row}{row}")
    (split,) = load_splits("folder", tree / "list.csv").values()
    assert len(split.test) == 2
    assert "1 images are listed more than once" in caplog.text


@pytest.mark.parametrize(
    ("form", "categories", "per_category"),
    [("lines", ("uni", "nut"), True), ("inctrl", ("nut", "nut_val"), False)],
)
def test_two_lists_never_share_a_file(
    tmp_path: Path, form: Form, categories: tuple[str, ...], per_category: bool
) -> None:
    splits = load_splits("folder", make_mvtec(tmp_path / "data", categories=categories))
    with pytest.raises(BadValue, match="two lists would be called"):
        write_manifest(form, tmp_path / "lists", splits, None, per_category=per_category)
    assert not (tmp_path / "lists").exists()
