import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.coco import Coco
from adcommon.data.prepare.shapes import draw, read_box, read_outline
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit, MaskSizeMismatch, UserError
from adcommon.testing.downloads import draw as draw_picture

WIDTH, HEIGHT = SIZE = (16, 12)
RING = np.zeros((HEIGHT, WIDTH), dtype=bool)
RING[2:9, 3:11] = True
RING[4:6, 5:8] = False


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of runs, column by column, the first outside."""
    flat = mask.T.ravel()
    ends = [*(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
    lengths = np.diff([0, *ends]).tolist()
    return [0, *lengths] if flat[0] else lengths


def compressed(lengths: list[int]) -> str:
    """The same as text, as pycocotools has it."""
    text = ""
    for index, length in enumerate(lengths):
        rest = length - (lengths[index - 2] if index > 2 else 0)
        while True:
            bits, rest = rest & 0x1F, rest >> 5
            done = rest == (-1 if bits & 0x10 else 0)
            text += chr(48 + bits + (0 if done else 0x20))
            if done:
                break
    return text


def make(folder: Path, *annotations: dict[str, Any], names: tuple[str, ...] = ("scratch", "dent")) -> Path:
    """Three images, of which the annotations concern the last, number 2."""
    images = [{"id": n, "file_name": f"lot/{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(3)]
    for image in images:
        draw_picture(folder / str(image["file_name"]))
    marks = [{"image_id": 2, "category_id": 0, "bbox": [2, 2, 3, 3]} | one for one in annotations]
    categories = [{"id": n, "name": name} for n, name in enumerate(names)]
    table = {"images": images, "annotations": marks, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(table))
    return folder


SQUARE = {"segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]]}


def test_a_square_of_three_pixels_has_nine() -> None:
    for outline in (read_outline(SQUARE["segmentation"], SIZE, ""), [read_box([2, 2, 3, 3], "")]):
        mask = draw(outline, SIZE)
        assert mask.sum() == 9
        assert mask[2:5, 2:5].all()


def test_polygons_count_together_and_are_cut_at_the_border() -> None:
    outline = [[-3, 2, 4, 2, 4, 6, -3, 6], [3, 2, 20, 2, 20, 6, 3, 6]]
    mask = draw(read_outline(outline, SIZE, ""), SIZE)
    assert mask[2:6].all()
    assert mask.sum() == 4 * WIDTH


def test_a_polygon_agrees_with_the_circle_that_it_follows() -> None:
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    corners = np.stack((32 + 20 * np.cos(angles), 32 + 20 * np.sin(angles)), axis=1)
    rows, columns = np.mgrid[:64, :64] + 0.5
    circle = (rows - 32) ** 2 + (columns - 32) ** 2 < 400
    mask = draw(read_outline([corners.ravel().tolist()], (64, 64), ""), (64, 64))
    assert (mask != circle).sum() <= 4


def test_a_scratch_thinner_than_a_pixel_is_not_lost() -> None:
    mask = draw(read_outline([[3.1, 2.6, 9.2, 2.7, 3.1, 2.8]], SIZE, ""), SIZE)
    assert {tuple(place) for place in np.argwhere(mask).tolist()} == {(2, 3), (2, 9)}


@pytest.mark.parametrize("counts", [runs(RING), compressed(runs(RING)), compressed(runs(~RING))])
def test_runs_keep_their_holes(counts: list[int] | str) -> None:
    expected = ~RING if counts == compressed(runs(~RING)) else RING
    mask = draw(read_outline({"counts": counts, "size": [HEIGHT, WIDTH]}, SIZE, ""), SIZE)
    assert np.array_equal(mask, expected)


def test_compressed_runs_are_those_of_pycocotools() -> None:
    # pycocotools.mask.encode of a 12x16 mask with [3:7, 4:9]
    outline = read_outline({"counts": "c1480000000a2", "size": [HEIGHT, WIDTH]}, SIZE, "")
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[3:7, 4:9] = True
    assert np.array_equal(draw(outline, SIZE), expected)


def test_annotated_images_take_the_folders_that_are_read_everywhere(tmp_path: Path) -> None:
    crowd = {"segmentation": {"counts": runs(RING), "size": [HEIGHT, WIDTH]}, "iscrowd": 1, "category_id": 1}
    raw = make(tmp_path / "raw", SQUARE, crowd)
    draw_picture(raw / "lot/unnamed.png")
    plan = carry_out(Coco().plan(raw, tmp_path / "out"))
    assert plan.counts() == {"combined": 1, "good": 2, "ground_truth/combined": 1}
    assert "1 images that no annotations name are left out" in plan.notes[2]
    split = load_records("folder", tmp_path / "out", "out")
    (found,) = [record for record in split.test if record.label]
    assert (found.defect, found.image.name) == ("combined", "lot_2.png")
    mask = np.asarray(Image.open(found.mask or "")) > 0
    assert np.array_equal(mask, RING | draw(read_outline(SQUARE["segmentation"], SIZE, ""), SIZE))


def test_ignored_categories_mark_nothing(tmp_path: Path) -> None:
    raw = make(
        tmp_path / "raw", {"bbox": [0, 0, 16, 12]}, SQUARE | {"category_id": 1}, names=("part", "dent")
    )
    assert Coco(ignore=("part",)).plan(raw, tmp_path / "out").counts()["dent"] == 1
    with pytest.raises(BadValue, match=r"--ignore parts: no such category in .*; it has part, dent"):
        Coco(ignore=("parts",)).plan(raw, tmp_path / "out")


def test_a_box_is_refused_or_taken_as_mask(tmp_path: Path) -> None:
    raw = make(tmp_path / "raw", {"segmentation": []})
    with pytest.raises(BadValue, match=r"annotations, entry 1: a box without an outline\n.*--boxes fill"):
        Coco().plan(raw, tmp_path / "out")
    carry_out(Coco(boxes="fill").plan(raw, tmp_path / "out"))
    mask = Image.open(tmp_path / "out/ground_truth/scratch/lot_2_mask.png")
    assert int((np.asarray(mask) > 0).sum()) == 9


@pytest.mark.parametrize(
    ("table", "entry", "values", "message"),
    [
        ("images", 0, {"file_name": "../../secret.png"}, "names a file outside of"),
        ("images", 0, {"file_name": "/etc/hostname"}, "names a file outside of"),
        ("images", 0, {"file_name": "lot/gone.png"}, r"1 of 3 files are missing: .*lot.gone\.png"),
        ("images", 0, {"file_name": "labels.json"}, "is no image"),
        ("images", 0, {"id": 2}, "1 images have the id of another: 2"),
        ("images", 2, {"width": 32}, "images, entry 3: 32x12 pixels, but .* is 16x12"),
        ("images", 2, {"height": None}, "images, entry 3: height is None; expected a whole number"),
        ("annotations", 0, {"image_id": 9}, "annotations, entry 1: image_id 9 is none of the images"),
        (
            "annotations",
            0,
            {"category_id": 9},
            "annotations, entry 1: category_id 9 is none of the categories",
        ),
        ("annotations", 0, {"segmentation": [[1, 2, 3]]}, "a polygon is .* expected at least three corners"),
        ("annotations", 0, {"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, "a polygon is"),
        ("annotations", 0, {"segmentation": {"counts": [1], "size": [9, 9]}}, r"the size \[9, 9\]; expected"),
        ("annotations", 0, {"segmentation": {"counts": [1], "size": [12, 16]}}, "counts make 1 pixels"),
        (
            "annotations",
            0,
            {"segmentation": {"counts": [-1, 193], "size": [12, 16]}},
            "expected lengths of runs",
        ),
        (
            "annotations",
            0,
            {"segmentation": {"counts": "\x00", "size": [12, 16]}},
            "expected lengths of runs",
        ),
        (
            "annotations",
            0,
            {"segmentation": {"counts": "o" * 99, "size": [12, 16]}},
            "expected lengths of runs",
        ),
        ("categories", 0, {"name": "ok"}, r"the category 'ok' is no name of a defect.*\n.*--ignore 'ok'"),
        ("categories", 0, {"name": "mask"}, "the category 'mask' is no name of a defect"),
    ],
)
def test_annotations_that_are_wrong_are_refused_with_their_entry(
    table: str, entry: int, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    raw = make(tmp_path / "raw", SQUARE)
    content = json.loads((raw / "labels.json").read_text())
    content[table][entry] |= values
    (raw / "labels.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        Coco().plan(raw, tmp_path / "out")


def test_which_file_and_which_images_are_normal_must_be_clear(tmp_path: Path) -> None:
    raw = make(tmp_path / "raw", *({"image_id": number} | SQUARE for number in range(3)))
    with pytest.raises(EmptySplit, match=r"every image that .* names is annotated"):
        Coco().plan(raw, tmp_path / "out")
    (raw / "other.json").write_text("[]")
    with pytest.raises(DatasetNotFound, match=r"found: .*labels\.json, .*other\.json\n.*--annotations"):
        Coco().plan(raw, tmp_path / "out")
    with pytest.raises(BadValue, match="no array 'images' of objects; expected COCO JSON"):
        Coco(annotations=(raw / "other.json",)).plan(raw, tmp_path / "out")


def test_annotations_beyond_the_image_mark_nothing_and_are_named(tmp_path: Path) -> None:
    raw = make(tmp_path / "raw", {"segmentation": [[90, 90, 95, 90, 95, 95]]})
    with pytest.raises(BadValue, match=r"the annotations of .*2\.png mark no pixel of it"):
        carry_out(Coco().plan(raw, tmp_path / "out"))


def test_a_photograph_that_exif_turns_may_be_annotated_upright(tmp_path: Path) -> None:
    raw = make(tmp_path / "raw", SQUARE)
    content = json.loads((raw / "labels.json").read_text())
    content["images"][2] |= {"file_name": "turned.jpg", "width": HEIGHT, "height": WIDTH}
    (raw / "labels.json").write_text(json.dumps(content))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(raw / "turned.jpg", exif=exif)
    carry_out(Coco().plan(raw, tmp_path / "out"))
    assert Image.open(tmp_path / "out/ground_truth/scratch/turned_mask.png").size == (HEIGHT, WIDTH)
    Image.new("RGB", SIZE).save(raw / "turned.jpg")
    with pytest.raises(MaskSizeMismatch):
        Coco().plan(raw, tmp_path / "out")
