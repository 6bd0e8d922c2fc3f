import json
from pathlib import Path

import pytest

from adcommon.data.lists.json_lists import lines_text, parse_array, parse_lines, parse_meta
from adcommon.errors import BadValue, DatasetNotFound
from adcommon.types.records import Record

GOOD_LINE = {"filename": "nut/train/good/0.png", "label": 0, "label_name": "good", "clsname": "nut"}


def written(folder: Path, text: str) -> Path:
    (folder / "list.json").write_bytes(text.encode())
    return folder / "list.json"


def test_lines_have_every_field_of_the_papers(tmp_path: Path) -> None:
    lines = [
        GOOD_LINE,
        {
            "filename": "nut/test/bent/0.png",
            "label": 1,
            "label_name": "defective",
            "clsname": "bolt",
            "maskname": "nut/ground_truth/bent/0_mask.png",
        },
        {"filename": "nut/test/ko/1.png", "label": 1, "maskname": ["a.png", "b.png"]},
    ]
    good, bent, several = parse_lines(written(tmp_path, "\n\n".join(map(json.dumps, lines))), "test")
    assert (good.image, good.label, good.category, good.defect, good.masks) == (
        *("nut/train/good/0.png", 0, "nut", "good"),
        (),
    )
    assert (bent.label, bent.category, bent.defect) == (1, "bolt", "bent")
    assert bent.masks == ("nut/ground_truth/bent/0_mask.png",)
    assert (several.category, several.defect, several.masks) == ("nut", "defect", ("a.png", "b.png"))
    assert several.where.endswith("list.json, line 5")
    assert {entry.split for entry in (good, bent, several)} == {"test"}


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    name = "nut/train/good/a\u2028b\x85c.png"
    text = json.dumps(GOOD_LINE | {"filename": name}, ensure_ascii=False) + "\r\n"
    assert [entry.image for entry in parse_lines(written(tmp_path, text * 2))] == [name, name]


def test_a_defect_that_no_folder_tells_is_written_as_the_labels_name(tmp_path: Path) -> None:
    told = Record(Path("nut/test/bent/0.png"), "nut", 1, "bent")
    untold = Record(Path("images/1.png"), "nut", 1, "bent")
    names = [json.loads(line)["label_name"] for line in lines_text([told, untold], None).splitlines()]
    assert names == ["defective", "bent"]
    path = written(tmp_path, lines_text([told, untold], None))
    assert [entry.defect for entry in parse_lines(path)] == ["bent", "bent"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 2}, "label is 2; expected 0 "),
        ({"label": None}, "label is None"),
        ({"label": "1"}, "label is '1'"),
        ({"filename": 3}, "filename is 3; expected text"),
        ({"clsname": []}, r"clsname is \[\]; expected text"),
        ({"maskname": 7}, "the mask is 7; expected a path, or a list"),
        ({"maskname": ["a", 1]}, "the mask is "),
        ({"clsname": None, "filename": "a/b/c.png"}, "no clsname, and a/b/c.png does not tell"),
    ],
)
def test_wrong_fields_of_a_line_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = written(tmp_path, f"{json.dumps(GOOD_LINE)}\n{json.dumps(GOOD_LINE | changes)}\n")
    with pytest.raises(BadValue, match=rf"list\.json, line 2: {message}"):
        parse_lines(path)


@pytest.mark.parametrize("text", ["[]", '{"filename": ', "<html>", "version https://git-lfs", "[" * 100_000])
def test_what_is_no_line_is_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadValue, match=r"line 1: (not a JSON object; )?expected one"):
        parse_lines(written(tmp_path, text))


def test_what_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_bytes(b"\x89PNG\xff")
    with pytest.raises(BadValue, match="byte 0 is not UTF-8"):
        parse_lines(tmp_path / "list.json")
    with pytest.raises(BadValue, match="cannot read the list"):
        parse_lines(tmp_path)
    with pytest.raises(DatasetNotFound, match="no such list"):
        parse_lines(tmp_path / "nothing.json")


def test_arrays_have_every_field_of_the_paper(tmp_path: Path) -> None:
    items = [
        {"image_path": "data/nut/train/good/0.png", "target": 0, "type": "nut"},
        {"image_path": "data/nut/test/bent/0.png", "target": 1, "type": "nut"},
    ]
    good, bent = parse_array(written(tmp_path, json.dumps(items)), "test")
    assert (good.image, good.label, good.category, good.defect) == (
        *("data/nut/train/good/0.png", 0, "nut"),
        "good",
    )
    assert (bent.label, bent.defect, bent.masks) == (1, "bent", ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[\n{"image_path": "a", "target": 0, "type": "b"},\n{"target": 0}]',
            "line 3: image_path is missing",
        ),
        ('[\n\n{"image_path": "}{", "target": 3, "type": "}"}]', "line 3: target is 3"),
        ('[{"image_path": "a", "target": 0}]', "line 1: type is missing"),
        ('[{"image_path": {}, "target":\n {"x": {}}},\n {"target": 1}]', "line 1: image_path is {}"),
        ("[7]", "entry 1: expected an object, found 7"),
        ("{}", "expected a JSON array"),
        ("[\n{,}]", "line 2: not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("[" + "9" * 10_000 + "]", "too large a number"),
    ],
)
def test_wrong_entries_of_an_array_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadValue, match=rf"list\.json(, |: )(.*){message}"):
        parse_array(written(tmp_path, text))


def test_a_table_has_every_field_of_the_benchmark(tmp_path: Path) -> None:
    item = {"img_path": "nut/a.png", "mask_path": "", "cls_name": "nut", "specie_name": "good", "anomaly": 0}
    bent = item | {"img_path": "nut/b.png", "mask_path": "m.png", "specie_name": "bent", "anomaly": 1}
    first, second = parse_meta(
        written(tmp_path, json.dumps({"train": {"nut": [item]}, "test": {"nut": [bent]}}))
    )
    assert (first.image, first.category, first.label, first.masks, first.split) == (
        *("nut/a.png", "nut", 0, ()),
        "train",
    )
    assert (second.defect, second.label, second.masks, second.split) == ("bent", 1, ("m.png",), "test")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "expected"),
        ({"validation": {}}, "expected"),
        ({"train": []}, "train: expected an object"),
        ({"train": {"nut": {}}}, "train, nut: expected an array"),
        ({"train": {}, "test": {"nut": [{"img_path": "a"}]}}, "line 5: anomaly is missing"),
        ({"test": {"nut": [{"img_path": "a", "anomaly": 0, "mask_path": 5}]}}, "the mask is 5"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, table: object, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        parse_meta(written(tmp_path, json.dumps(table, indent=1)))
