from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.isic2018 import DIAGNOSES, Isic2018
from adcommon.errors import BadValue, DatasetNotFound

PARTS = {"Training": ["NV", "MEL", "NV", "DF"], "Validation": ["BKL", "NV", "VASC"]}


def make_raw(root: Path, columns: list[str], nested: bool = False) -> Path:
    number = 0
    for part, diagnoses in PARTS.items():
        for kind in ("Input", "GroundTruth"):
            folder = root / f"ISIC2018_Task3_{part}_{kind}"
            (folder / folder.name if nested else folder).mkdir(parents=True)
        images = next(path for path in sorted(root.rglob(f"*{part}_Input"), key=str, reverse=True))
        table = next(path for path in sorted(root.rglob(f"*{part}_GroundTruth"), key=str, reverse=True))
        (images / "LICENSE.txt").touch()
        rows = [",".join(columns)]
        for diagnosis in diagnoses:
            name = f"ISIC_{number:07d}"
            Image.fromarray(np.full((8, 8, 3), 20 * number, dtype=np.uint8)).save(images / f"{name}.jpg")
            values = {"image": name, **{column: "0.0" for column in DIAGNOSES}, diagnosis: "1.0"}
            rows.append(",".join(values[column] for column in columns))
            number += 1
        (table / f"ISIC2018_Task3_{part}_GroundTruth.csv").write_text("\n".join(rows) + "\n")
    return root


def targets(root: Path, save: Path) -> set[str]:
    return {step.target for step in Isic2018().plan(root, save).steps}


def test_nevi_are_normal_and_the_validation_images_test(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", ["image", *DIAGNOSES])
    carry_out(Isic2018().plan(raw, tmp_path / "ISIC2018"))
    split = load_records("isic2018", tmp_path, "ISIC2018")
    assert [record.image.name for record in split.train] == ["ISIC_0000000.jpg", "ISIC_0000002.jpg"]
    assert [(record.image.name, record.label) for record in split.test] == [
        ("ISIC_0000004.jpg", 1),
        ("ISIC_0000006.jpg", 1),
        ("ISIC_0000005.jpg", 0),
    ]


def test_permuted_columns_and_nested_folders_give_the_same_tree(tmp_path: Path) -> None:
    plain = make_raw(tmp_path / "plain", ["image", *DIAGNOSES])
    permuted = make_raw(tmp_path / "permuted", ["VASC", "NV", "image", "DF", "MEL", "BCC", "BKL", "AKIEC"])
    nested = make_raw(tmp_path / "nested", ["image", *DIAGNOSES], nested=True)
    expected = targets(plain, tmp_path / "out")
    assert targets(permuted, tmp_path / "out") == expected
    assert targets(nested, tmp_path / "out") == expected


def test_an_image_must_have_exactly_one_diagnosis(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", ["image", *DIAGNOSES])
    table = raw / "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace("0.0", "1.0", 1))
    with pytest.raises(BadValue, match="line 2: ISIC_0000000 has 2 diagnoses; expected one"):
        carry_out(Isic2018().plan(raw, tmp_path / "out"))
    table.write_text("image,NV\n")
    with pytest.raises(BadValue, match="expected image, MEL, NV, BCC"):
        carry_out(Isic2018().plan(raw, tmp_path / "out"))


def test_missing_parts_of_the_download_are_named(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", ["image", *DIAGNOSES])
    (raw / "ISIC2018_Task3_Training_Input/ISIC_0000002.jpg").unlink()
    (raw / "ISIC2018_Task3_Validation_Input/ISIC_0000005.jpg").unlink()
    with pytest.raises(DatasetNotFound, match=r"2 of 5 files are missing: .*0000002\.jpg, .*0000005\.jpg"):
        carry_out(Isic2018().plan(raw, tmp_path / "out"))
    with pytest.raises(DatasetNotFound, match=r"unpack ISIC2018_Task3_Training_GroundTruth\.zip in"):
        carry_out(Isic2018().plan(tmp_path, tmp_path / "out"))
