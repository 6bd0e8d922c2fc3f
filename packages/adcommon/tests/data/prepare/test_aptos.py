import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adcommon.data import load_records
from adcommon.data.prepare.aptos import Aptos, crop_fundus
from adcommon.data.prepare.build import carry_out
from adcommon.data.prepare.plan import Plan
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit


def retina(path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :60]
    disc = np.hypot(rows - 20, columns - 30 - generator.integers(-3, 4)) < 15
    image = (disc[..., None] * generator.integers(60, 200, 3)).astype(np.uint8)
    Image.fromarray(image).save(path)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Twelve normal and four graded images, in mixed order."""
    (tmp_path / "raw/train_images").mkdir(parents=True)
    rows = ["id_code,diagnosis"]
    for index in range(16):
        retina(tmp_path / f"raw/train_images/id{index:02d}.png", index)
        rows.append(f"id{index:02d},{index % 4 + 1 if index % 4 == 3 else 0}")
    (tmp_path / "raw/train.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "raw"


def names(plan: Plan, folder: str) -> list[str]:
    return [step.target.rpartition("/")[2] for step in plan.steps if step.target.startswith(folder)]


@pytest.mark.parametrize("number", range(4))
def test_fundus_crop_equals_the_reference(golden_root: Path, number: int) -> None:
    golden = np.load(golden_root / "metrics/prepare_fundus.npz")
    cropped = crop_fundus(golden[f"input_{number}"], 64)
    # One grey level is allowed for other roundings of the interpolation; it is exact here.
    assert np.abs(cropped.astype(int) - golden[f"output64_{number}"]).max() <= 1


def test_fundus_crop_equals_the_reference_of_the_paper(golden_root: Path) -> None:
    golden = np.load(golden_root / "recontrast/preprocess.npz")
    meta = json.loads((golden_root / "recontrast/meta.json").read_text())["files"]["preprocess"]
    for case in meta["fundus"]:
        side, other = case["resize"]
        assert side == other
        cropped = crop_fundus(golden[case["input"]], side, margin=case["margin"])
        atol = meta["tolerance"]["fundus*_out"]["atol"]
        assert np.abs(cropped.astype(int) - golden[case["output"]]).max() <= atol


def test_brightness_is_summed_without_wrapping_and_the_largest_region_counts() -> None:
    image = np.zeros((60, 60, 3), dtype=np.uint8)
    image[5:45, 5:45] = 95  # the channels sum to 285, which is 29 modulo 256
    image[50:58, 50:58] = 255
    cropped = crop_fundus(image, 50)
    assert (cropped[10:40, 10:40] == 95).all()
    assert not (cropped == 255).any()


def test_regions_touching_at_a_corner_are_one() -> None:
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[4:14, 4:14] = 200
    image[14:24, 14:24] = 100
    cropped = crop_fundus(image, 30)
    assert {0, 100, 200} <= set(np.unique(cropped))


def test_outside_of_the_image_is_black() -> None:
    image = np.full((30, 90, 3), 120, dtype=np.uint8)
    cropped = crop_fundus(image, 100)
    assert cropped.shape == (100, 100, 3)
    assert not cropped[:25].any()
    assert (cropped[48:52, 10:90] == 120).all()


def test_split_follows_the_authors_shuffle(raw: Path, golden_root: Path, tmp_path: Path) -> None:
    plan = Aptos(train_images=8).plan(raw, tmp_path / "APTOS")
    assert plan.counts() == {"test/ABNORMAL": 4, "test/NORMAL": 4, "train/NORMAL": 8}
    assert not (tmp_path / "APTOS").exists()
    assert names(plan, "test/ABNORMAL") == ["id03.png", "id07.png", "id11.png", "id15.png"]
    golden = np.load(golden_root / "metrics/prepare_splits.npz")
    for count in (20, 1805):
        rows = [f"n{index:04d},0" for index in range(count)] + ["x,4"]
        (raw / "train.csv").write_text("id_code,diagnosis\n" + "\n".join(rows))
        for row in rows:
            (raw / "train_images" / f"{row.split(',')[0]}.png").touch()
        plan = Aptos(train_images=15).plan(raw, tmp_path / "APTOS")
        order = [int(name[1:5]) for name in names(plan, "train/NORMAL") + names(plan, "test/NORMAL")]
        np.testing.assert_array_equal(order, golden[f"aptos_seed1_order_{count}"])


def test_prepared_tree_loads_although_the_download_lies_inside(raw: Path, tmp_path: Path) -> None:
    original = tmp_path / "APTOS/original"
    original.parent.mkdir()
    raw.rename(original)
    carry_out(Aptos(size=32, train_images=8).plan(original, tmp_path / "APTOS"))
    split = load_records("aptos", tmp_path, "APTOS")
    assert (len(split.train), len(split.test)) == (8, 8)
    assert sum(record.label for record in split.test) == 4
    assert {Image.open(record.image).size for record in split.train} == {(32, 32)}
    assert original.is_dir()


def test_a_black_image_is_named_and_the_others_are_kept(raw: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(raw / "train_images/id03.png")
    with pytest.raises(
        BadValue, match=r"1 of 16 files cannot be prepared(.|\n)*id03\.png: no pixel is brighter"
    ):
        carry_out(Aptos(size=32, train_images=8).plan(raw, tmp_path / "APTOS"))
    retina(raw / "train_images/id03.png", 3)
    carry_out(Aptos(size=32, train_images=8).plan(raw, tmp_path / "APTOS"))
    assert len(list((tmp_path / "APTOS").rglob("*.png"))) == 16


def test_ids_may_have_a_suffix_and_missing_images_are_listed_together(raw: Path, tmp_path: Path) -> None:
    text = (raw / "train.csv").read_text().replace("id00,", "id00.png,")
    (raw / "train.csv").write_text(text)
    assert len(Aptos(train_images=8).plan(raw, tmp_path / "out").steps) == 16
    (raw / "train_images/id04.png").unlink()
    (raw / "train_images/id07.png").unlink()
    with pytest.raises(DatasetNotFound, match="2 of 16 files are missing"):
        carry_out(Aptos(train_images=8).plan(raw, tmp_path / "out"))


def test_a_table_cannot_name_files_elsewhere(raw: Path, tmp_path: Path) -> None:
    retina(tmp_path / "secret.png", 0)
    text = (raw / "train.csv").read_text().replace("id00,", "../../secret,")
    (raw / "train.csv").write_text(text)
    with pytest.raises(BadValue, match=r"a table names a file outside of .*: \.\./\.\./secret\.png"):
        Aptos(train_images=8).plan(raw, tmp_path / "out")


def test_wrong_downloads_are_named(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptySplit, match="has 12 normal images; expected more than the 1000"):
        carry_out(Aptos().plan(raw, tmp_path / "out"))
    (raw / "train.csv").write_text("id_code,diagnosis\nid00,5\n")
    with pytest.raises(BadValue, match="line 2: diagnosis '5'; expected 0 to 4"):
        carry_out(Aptos().plan(raw, tmp_path / "out"))
    (raw / "train.csv").write_text("id,grade\n")
    with pytest.raises(BadValue, match="expected id_code and diagnosis"):
        carry_out(Aptos().plan(raw, tmp_path / "out"))
    with pytest.raises(DatasetNotFound, match=r"no .*train\.csv"):
        carry_out(Aptos().plan(raw / "train_images", tmp_path / "out"))
