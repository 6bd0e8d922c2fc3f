from pathlib import Path

import pytest

from adcommon.data.lists.csv_list import COLUMNS, parse_csv
from adcommon.data.lists.manifest import read_manifest
from adcommon.errors import BadValue, DatasetNotFound, MaskMissing
from adcommon.testing.trees import make_folder


def table(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def test_only_the_image_must_be_there(tmp_path: Path) -> None:
    (entry,) = parse_csv(table(tmp_path / "nut", "image\na.png\n"))
    assert (entry.image, entry.category, entry.label, entry.defect, entry.masks, entry.split) == (
        *("a.png", "nut", 0, "good"),
        *((), ""),
    )


def test_every_column_is_read_in_any_order_and_case(tmp_path: Path) -> None:
    text = "Mask,Defect,CATEGORY,split,Label,path\nm/a.png,dent,bolt,test,Anomalous,images/a.png\n"
    (entry,) = parse_csv(table(tmp_path, text))
    values = {"image": entry.image, "label": str(entry.label), "split": entry.split}
    values |= {"category": entry.category, "defect": entry.defect, "mask": entry.masks[0]}
    assert list(values.values()) == ["images/a.png", "1", "test", "bolt", "dent", "m/a.png"]
    assert tuple(values) == COLUMNS


def test_a_byte_order_mark_and_quoted_line_breaks_are_no_hindrance(tmp_path: Path) -> None:
    path = table(tmp_path, "")
    path.write_bytes('\ufeffimage,label\n"a\nb, ""c"".png",normal\nd.png,2\n'.encode())
    with pytest.raises(BadValue, match="line 4: label is '2'"):
        parse_csv(path)
    path.write_bytes('\ufeffimage,label\r\n"a\nb\r, ""c"".png",normal\r\n'.encode())
    assert [entry.image for entry in parse_csv(path)] == ['a\nb\r, "c".png']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\na.png", "no column 'image'; its columns: file"),
        ("", "no column 'image'"),
        ("path,label\na.png,2", "line 2: label is '2'; expected 0 or normal"),
        ("path,split\na.png,val", "line 2: split is 'val'"),
        ("path,label,split\na.png,1,train", "line 2: an anomalous image cannot train"),
        ("path\na.png,1", "line 2: more fields than the 1 columns"),
        ('path\n"a.png', "line 1: unexpected end of data"),
    ],
)
def test_wrong_rows_are_named_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadValue, match=rf"manifest\.csv(, | has ){message}"):
        parse_csv(table(tmp_path, text))


def test_files_that_are_not_there_are_named_by_line(tmp_path: Path) -> None:
    make_folder(tmp_path, defects=("scratch",))
    rows = "path,label,mask\ngood/000.png,0,\nscratch/000.png,1,masks/000.png\n"
    with pytest.raises(MaskMissing, match=r"1 masks(.|\n)*line 3: masks/000\.png(.|\n)*Looked in"):
        read_manifest(table(tmp_path, rows))
    with pytest.raises(DatasetNotFound, match=r"1 images(.|\n)*line 4: good/999\.png"):
        read_manifest(table(tmp_path, rows + "good/999.png,,\n"))
    with pytest.raises(DatasetNotFound, match="no such list"):
        parse_csv(tmp_path / "nothing.csv")


def test_a_table_may_name_images_elsewhere_but_not_by_climbing(tmp_path: Path) -> None:
    make_folder(tmp_path / "made", good=4)
    inside = [f"{tmp_path}/made/good/{index:03d}.png" for index in range(4)]
    split = read_manifest(table(tmp_path / "lists", "\n".join(["path", *inside])))["lists"]
    assert (len(split.train), len(split.test)) == (3, 1)
    with pytest.raises(BadValue, match=r"line 2: the path .* leaves the folder"):
        read_manifest(table(tmp_path / "lists", "path\n../made/good/000.png\n"))


def test_the_split_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    make_folder(tmp_path, good=8)
    rows = [f"good/{index:03d}.png" for index in range(8)]
    forwards = read_manifest(table(tmp_path, "\n".join(["path", *rows])))
    assert read_manifest(table(tmp_path, "\n".join(["path", *reversed(rows)]))) == forwards
