"""InCTRL's converters on synthetic downloads: the same files in the same folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adcommon.data.prepare.build import MANIFEST, carry_out
from adcommon.data.prepare.plan import Preparer
from adcommon.data.prepare.quarter import BrainMri, Elpv, HeadCt
from adcommon.data.prepare.tiles import Aitex, Ksdd
from adcommon.io.files import MARKER
from adcommon.testing.golden import GoldenFolder


def draw(
    path: Path, width: int = 6, height: int = 6, points: list[list[int]] | None = None, value: int = 0
) -> None:
    """A grey image, black but for some points given as [row, column]."""
    pixels = np.zeros((height, width), dtype=np.uint8)
    for row, column in points or ():
        pixels[row, column] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw_sdd(raw: Path, tree: dict[str, Any]) -> None:
    for folder in tree["folders"]:
        for name in tree["images"]:
            size = (tree["width"], tree["height"])
            points = tree["mask_points_row_column"].get(f"{folder}/{name}")
            draw(raw / folder / f"{name}{tree['image_suffix']}", *size)
            draw(raw / folder / f"{name}{tree['mask_suffix']}", *size, points, tree["mask_value"])


def draw_aitex(raw: Path, tree: dict[str, Any]) -> None:
    for strip in tree["normal"]:
        folder = raw / "NODefect_images" / strip["fabric"]
        draw(folder / f"{strip['name']}.png", strip["width"], strip["height"])
    for strip in tree["defect"]:
        size = (strip["width"], strip["height"])
        draw(raw / f"Defect_images/Defect_images/{strip['name']}.png", *size)
        mask = raw / f"Mask_images/Mask_images/{strip['name']}_mask.png"
        draw(mask, *size, strip["mask_points_row_column"], tree["mask_value"])


def draw_brainmri(raw: Path, tree: dict[str, Any]) -> None:
    for folder in ("no", "yes"):
        for name in tree[folder]:
            draw(raw / folder / name)


def draw_headct(raw: Path, tree: dict[str, Any]) -> None:
    rows = ["id, hemorrhage", *(f"{number},{label}" for number, label in enumerate(tree["labels"]))]
    raw.mkdir(parents=True)
    (raw / "labels.csv").write_text("\n".join(rows) + "\n")
    for number in range(len(tree["labels"])):
        draw(raw / "head_ct/head_ct" / tree["file_name"].format(id=number))


def draw_elpv(raw: Path, tree: dict[str, Any]) -> None:
    for row in tree["rows"]:
        draw(raw / row["path"])
    lines = [f"{row['path']}  {row['probability']} {row['type']}" for row in tree["rows"]]
    (raw / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "make", "preparer"),
    [
        ("sdd", draw_sdd, Ksdd()),
        ("aitex", draw_aitex, Aitex()),
        ("brainmri", draw_brainmri, BrainMri()),
        ("headct", draw_headct, HeadCt()),
        ("elpv", draw_elpv, Elpv()),
    ],
)
def test_the_tree_is_that_of_the_reference(
    name: str,
    make: Callable[[Path, dict[str, Any]], None],
    preparer: Preparer,
    golden_root: Path,
    tmp_path: Path,
) -> None:
    entry, stored = read_converters(golden_root)
    make(tmp_path / "raw", entry["trees"][name])
    carry_out(preparer.plan(tmp_path / "raw", tmp_path / "out"))
    made = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.as_posix() for path in made if path.name not in (MANIFEST, MARKER)) == stored[name]
    if name == "sdd":
        heights = {Image.open(tmp_path / "out" / path).height for path in made if path.suffix == ".png"}
        assert sorted(heights) == stored["sdd_heights"]


def test_elpv_is_read_from_the_table_that_the_reference_read(golden_root: Path, tmp_path: Path) -> None:
    entry, stored = read_converters(golden_root)
    draw_elpv(tmp_path / "raw", entry["trees"]["elpv"])
    assert (tmp_path / "raw/labels.csv").read_text() == stored["elpv_labels_csv"]


def read_converters(golden_root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs, from meta.json, and what the reference made of them."""
    folder = GoldenFolder(golden_root / "inctrl")
    (name,) = folder.names("converters")
    return folder.files[name], json.loads((folder.folder / f"{name}.json").read_text())
