import hashlib
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.visa import Row, Visa, builtin_split, read_split
from adcommon.errors import BadValue, DatasetNotFound, NotPrepared, UnknownName

VISA_SPLITS = {
    "1cls": {
        "candle": (900, 0, 100, 100),
        "capsules": (542, 0, 60, 100),
        "cashew": (450, 0, 50, 100),
        "chewinggum": (453, 0, 50, 100),
        "fryum": (450, 0, 50, 100),
        "macaroni1": (900, 0, 100, 100),
        "macaroni2": (900, 0, 100, 100),
        "pcb1": (904, 0, 100, 100),
        "pcb2": (901, 0, 100, 100),
        "pcb3": (905, 0, 101, 100),
        "pcb4": (904, 0, 101, 100),
        "pipe_fryum": (450, 0, 50, 100),
    },
    "2cls_fewshot": {
        "candle": (200, 20, 800, 80),
        "capsules": (120, 20, 482, 80),
        "cashew": (100, 20, 400, 80),
        "chewinggum": (101, 20, 402, 80),
        "fryum": (100, 20, 400, 80),
        "macaroni1": (200, 20, 800, 80),
        "macaroni2": (200, 20, 800, 80),
        "pcb1": (201, 20, 803, 80),
        "pcb2": (200, 20, 801, 80),
        "pcb3": (201, 20, 805, 80),
        "pcb4": (201, 20, 804, 80),
        "pipe_fryum": (100, 20, 400, 80),
    },
    "2cls_highshot": {
        "candle": (600, 60, 400, 40),
        "capsules": (361, 60, 241, 40),
        "cashew": (300, 60, 200, 40),
        "chewinggum": (302, 60, 201, 40),
        "fryum": (300, 60, 200, 40),
        "macaroni1": (600, 60, 400, 40),
        "macaroni2": (600, 60, 400, 40),
        "pcb1": (602, 60, 402, 40),
        "pcb2": (601, 60, 400, 40),
        "pcb3": (604, 60, 402, 40),
        "pcb4": (603, 60, 402, 40),
        "pipe_fryum": (300, 60, 200, 40),
    },
}
"""VisA's official splits: normal and anomalous training images, normal and anomalous test images."""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two categories of three normal and two anomalous images, with a split of which one row is misspelt."""
    root = tmp_path / "VisA"
    rows = ["object,split,label,image,mask"]
    generator = np.random.default_rng(0)
    for category in ("candle", "pcb1"):
        for kind, count in (("Normal", 3), ("Anomaly", 2)):
            folder = root / category / "Data/Images" / kind
            folder.mkdir(parents=True)
            for index in range(count):
                name = f"{index:04d}" if kind == "Normal" else f"{index:03d}"
                pixels = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}.JPG")
                image = (
                    f"{category}/Data/Images/{kind}/{name}.{'jpg' if category + name == 'pcb1001' else 'JPG'}"
                )
                if kind == "Normal":
                    rows.append(f"{category},{'train' if index < 2 else 'test'},normal,{image},")
                    continue
                mask = np.zeros((12, 16), dtype=np.uint8)
                mask[2:5, 3:7] = 1 + 2 * index
                masks = root / category / "Data/Masks/Anomaly"
                masks.mkdir(parents=True, exist_ok=True)
                stored = Image.fromarray(mask, "P" if index else "L")
                if index:
                    stored.putpalette([255, 255, 255] + [0, 0, 0] * 3)
                stored.save(masks / f"{name}.png")
                rows.append(f"{category},test,anomaly,{image},{category}/Data/Masks/Anomaly/{name}.png")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return root


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def test_prepared_tree_has_binary_masks_and_one_warning_about_spelling(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = digest(raw)
    with caplog.at_level(logging.WARNING):
        plan = carry_out(Visa().plan(raw, tmp_path / "VisA_pytorch"))
    root = tmp_path / "VisA_pytorch/1cls"
    images = [path for path in root.rglob("*.JPG") if path.is_relative_to(root / "pcb1")]
    assert len(images) == 5
    assert sorted(path.name for path in (root / "pcb1/test/bad").iterdir()) == ["000.JPG", "001.JPG"]
    for mask in sorted(root.glob("*/ground_truth/bad/*.png")):
        stored = Image.open(mask)
        assert stored.mode == "L"
        assert set(np.unique(np.asarray(stored))) == {0, 255}
        assert (np.asarray(stored) > 0).sum() == 12
    spelled = [record for record in caplog.records if "spelled otherwise" in record.message]
    assert len(spelled) == 1
    assert "1 files" in spelled[0].message
    assert plan.counts()["candle/train/good"] == 2
    assert digest(raw) == before
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["options"]["split_type"] == "1cls"


def test_prepared_tree_loads(raw: Path, tmp_path: Path) -> None:
    carry_out(Visa().plan(raw, tmp_path / "VisA_pytorch"))
    split = load_records("visa", tmp_path, "candle")
    assert (len(split.train), len(split.test)) == (2, 3)
    assert split.pixel_truth


@pytest.mark.parametrize(("layout", "good", "bad"), [("defect", "good", "defect"), ("ko", "ok", "ko")])
def test_other_papers_folder_names(raw: Path, tmp_path: Path, layout: str, good: str, bad: str) -> None:
    counts = Visa(layout=layout, categories=("candle",)).plan(raw, tmp_path / "out").counts()
    assert counts == {
        f"candle/ground_truth/{bad}": 2,
        f"candle/test/{bad}": 2,
        f"candle/test/{good}": 1,
        f"candle/train/{good}": 2,
    }
    assert not (tmp_path / "out").exists()


def test_two_class_split_has_masks_of_both_parts_and_loads_without_anomalies_that_train(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (raw / "split_csv/1cls.csv").read_text()
    text = text.replace(
        "candle,test,anomaly,candle/Data/Images/Anomaly/000",
        "candle,train,anomaly,candle/Data/Images/Anomaly/000",
    )
    (raw / "split_csv/2cls_fewshot.csv").write_text(text)
    carry_out(Visa(split_type="2cls_fewshot").plan(raw, tmp_path / "out"))
    root = tmp_path / "out/2cls_fewshot/candle"
    assert [path.name for path in (root / "train/bad").iterdir()] == ["000.JPG"]
    assert [path.name for path in (root / "ground_truth/train/bad").iterdir()] == ["000.png"]
    assert [path.name for path in (root / "ground_truth/test/bad").iterdir()] == ["001.png"]
    caplog.clear()
    split = load_records("visa", tmp_path / "out/2cls_fewshot", "candle")
    assert {record.image.parent.name for record in split.train} == {"good"}
    assert [record.image.name for record in split.test if record.label] == ["001.JPG"]
    assert split.pixel_truth
    assert "expected" not in caplog.text  # the published counts are those of 1cls


def test_the_download_may_lie_one_folder_deeper_beside_the_target(raw: Path, tmp_path: Path) -> None:
    plan = carry_out(Visa().plan(tmp_path, tmp_path / "VisA_pytorch"))
    assert plan.source == raw
    assert len(load_records("visa", tmp_path, "candle").train) == 2


def test_without_the_csv_the_message_names_it(raw: Path, tmp_path: Path) -> None:
    (raw / "split_csv/1cls.csv").unlink()
    with pytest.raises(NotPrepared, match=r"no .*split_csv/1cls\.csv, and \d+ files(.|\n)*--split-file"):
        carry_out(Visa().plan(raw, tmp_path / "out"))
    with pytest.raises(DatasetNotFound, match=r"no such split file: .*mine\.csv"):
        carry_out(Visa(split_file=tmp_path / "mine.csv").plan(raw, tmp_path / "out"))
    with pytest.raises(DatasetNotFound, match="not the download of VisA: no such folder"):
        carry_out(Visa().plan(tmp_path / "nowhere", tmp_path / "out"))


def test_missing_images_are_listed_together(raw: Path, tmp_path: Path) -> None:
    (raw / "candle/Data/Images/Normal/0000.JPG").unlink()
    (raw / "pcb1/Data/Masks/Anomaly/001.png").unlink()
    with pytest.raises(DatasetNotFound) as error:
        carry_out(Visa().plan(raw, tmp_path / "out"))
    assert "2 of 10 files are missing" in str(error.value)
    assert "0000.JPG" in str(error.value)
    assert "001.png" in str(error.value)


def test_single_categories_of_an_incomplete_download(raw: Path, tmp_path: Path) -> None:
    (raw / "candle/Data/Images/Normal/0000.JPG").unlink()
    assert "pcb1/test/bad" in Visa(categories=("pcb1",)).plan(raw, tmp_path / "out").counts()
    with pytest.raises(UnknownName, match="did you mean 'candle'"):
        Visa(categories=("Candel",)).plan(raw, tmp_path / "out")


def test_wrong_split_files_are_named(raw: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("image,label\n")
    with pytest.raises(BadValue, match="expected object, split, label, image, mask"):
        read_split(path)
    path.write_text("object,split,label,image,mask\ncandle,val,normal,a.JPG,\n")
    with pytest.raises(BadValue, match="line 2: split 'val'"):
        read_split(path)
    path.write_text("mask,image,label,split,object\n,a.JPG,normal,train,candle\n")
    assert read_split(path) == [Row("candle", "train", False, "a.JPG", "")]


@pytest.mark.parametrize("split_type", ["1cls", "2cls_fewshot", "2cls_highshot"])
def test_built_in_splits_are_the_official_ones(golden_root: Path, split_type: str) -> None:
    rows = builtin_split(split_type)
    assert len(rows) == 10821
    assert len({row.image for row in rows}) == 10821
    counts = Counter((row.category, row.split, row.anomalous) for row in rows)
    parts = [("train", False), ("train", True), ("test", False), ("test", True)]
    for category, expected in VISA_SPLITS[split_type].items():
        assert tuple(counts[category, *part] for part in parts) == expected
    table = json.loads((golden_root / "recontrast/visa_splits.json").read_text())
    for category, numbers in table.items():
        digits, here = numbers["normal_digits"], [row for row in rows if row.category == category]
        if split_type == "1cls":
            tested = {f"{number:0{digits}d}.JPG" for number in numbers["1cls_test_normal"]}
            assert tested == {
                Path(row.image).name for row in here if row.split == "test" and not row.anomalous
            }
            assert all(row.split == "test" for row in here if row.anomalous)
        else:
            for kind, width, anomalous in (("normal", digits, False), ("anomaly", 3, True)):
                trained = {f"{number:0{width}d}.JPG" for number in numbers[f"{split_type}_train_{kind}"]}
                found = {
                    Path(row.image).name
                    for row in here
                    if row.split == "train" and row.anomalous == anomalous
                }
                assert trained == found
    for row in rows:
        assert bool(row.mask) == row.anomalous
        assert not row.mask or Path(row.mask).stem == Path(row.image).stem
