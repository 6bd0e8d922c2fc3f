"""Draw tiny copies of the official downloads, with their quirks: junk files, odd suffixes, missing masks."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adcommon.data.catalog import DATASETS, Dataset
from adcommon.data.catalog.counts import CIFAR10_CLASSES
from adcommon.data.prepare.isic2018 import DIAGNOSES
from adcommon.testing import recent
from adcommon.testing.drawn import draw as draw
from adcommon.testing.drawn import draw_mask as draw_mask
from adcommon.testing.drawn import write_lines
from adcommon.testing.trees import make_mvtec


def make_download(dataset: str, folder: Path) -> Path:
    """Draw the download of a dataset into `folder`, and return `folder`.

    What is published as category folders needs no function of its own: its first category is drawn.

    Raises:
        LookupError: nobody has said yet how the download looks.
    """
    folder.mkdir(parents=True)
    entry = DATASETS.get(dataset)
    if (draw_it := _DOWNLOADS.get(dataset)) is not None:
        draw_it(folder)
    elif entry is not None and entry.as_published and entry.layout == "category_folders":
        _category_folders(entry, folder / entry.folder)
    else:
        raise LookupError(f"how does the download of '{dataset}' look? Draw a tiny one in {recent.__file__}")
    return folder


def _category_folders(entry: Dataset, folder: Path) -> None:
    category = entry.categories[0]
    published = entry.counts.get(category)
    defects = tuple(published.defects)[:1] if published else ()
    make_mvtec(
        folder,
        (category,),
        train=3,
        test_good=2,
        test_defect=2,
        size=16,
        defects=defects or ("defect",),
        masks=entry.pixel_truth,
    )


def _mvtec(folder: Path) -> None:
    make_mvtec(folder, categories=("bottle",), train=3, test_good=2, test_defect=2, size=16)
    (folder / "license.txt").write_text("CC BY-NC-SA 4.0\n")
    (folder / "bottle/readme.txt").touch()
    (folder / "bottle/test/good/.DS_Store").touch()


def _visa(folder: Path) -> None:
    rows = ["object,split,label,image,mask"]
    for name, split in (("0000", "train"), ("0001", "train"), ("0002", "test")):
        image = f"candle/Data/Images/Normal/{name}.JPG"
        draw(folder / image)
        rows.append(f"candle,{split},normal,{image},")
    for name, value in (("000", 1), ("001", 3)):
        image, mask = f"candle/Data/Images/Anomaly/{name}.JPG", f"candle/Data/Masks/Anomaly/{name}.png"
        draw(folder / image)
        draw_mask(folder / mask, (2, 3, 6, 7), value=value)
        rows.append(f"candle,test,anomaly,{image},{mask}")
    write_lines(folder / "split_csv/1cls.csv", rows)


def _btad(folder: Path) -> None:
    for category, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        root = folder / "BTech_Dataset_transformed" / category
        for part in ("train/ok/0000", "train/ok/0001", "test/ok/0002", "test/ko/0003"):
            draw(root / f"{part}.{image}")
        draw_mask(root / f"ground_truth/ko/0003.{mask}", (1, 1, 4, 4))


def _mvtec_3d(folder: Path) -> None:
    for part in ("train/good", "validation/good", "test/good", "test/crack"):
        for name in ("000", "001"):
            draw(folder / f"bagel/{part}/rgb/{name}.png")
            (folder / f"bagel/{part}/xyz").mkdir(exist_ok=True)
            (folder / f"bagel/{part}/xyz/{name}.tiff").write_bytes(b"coordinates")
            if part.startswith("test"):
                box = (0, 0, 0, 0) if part == "test/good" else (2, 2, 5, 5)
                draw_mask(folder / f"bagel/{part}/gt/{name}.png", box)
    (folder / "bagel/calibration").mkdir()


def _mvtec_loco(folder: Path) -> None:
    root = folder / "pushpins"
    for part in ("train/good", "validation/good", "test/good"):
        draw(root / part / "000.png")
    for group, channels in (("logical_anomalies", (255, 249)), ("structural_anomalies", (248,))):
        draw(root / "test" / group / "004.png")
        for number, value in enumerate(channels):
            box = (3 * number, 2, 3 * number + 2, 5)
            draw_mask(root / "ground_truth" / group / "004" / f"{number:03d}.png", box, value=value)
    config = [
        {
            "defect_name": f"defect {value}",
            "pixel_value": value,
            "saturation_threshold": 1.0,
            "relative_saturation": True,
        }
        for value in (255, 249, 248)
    ]
    (root / "defects_config.json").write_text(json.dumps(config))


def _ksdd(folder: Path) -> None:
    for number in range(1, 4):
        for part in range(3):
            draw(folder / f"kos{number:02d}/Part{part}.jpg", size=(8, 10), mode="L")
            box = (2, 2, 5, 4) if (number, part) == (2, 1) else (0, 0, 0, 0)
            draw_mask(folder / f"kos{number:02d}/Part{part}_label.bmp", box, size=(8, 10), value=7)
    (folder / "readme.txt").touch()


def _aitex(folder: Path) -> None:
    for fabric, name in (("2306881-210020u", "0001_000_02"), ("2306894-210033u", "0002_000_03")):
        draw(folder / f"NODefect_images/{fabric}/{name}.png", size=(1024, 256), mode="L")
    masks = folder / "Mask_images/Mask_images"
    for name in ("0010_006_02", "0044_019_04", "0100_025_08"):
        draw(folder / f"Defect_images/Defect_images/{name}.png", size=(700, 256), mode="L")
    draw_mask(masks / "0010_006_02_mask.png", (300, 9, 310, 12), size=(700, 256))
    draw_mask(masks / "0044_019_04_mask1.png", (10, 9, 20, 12), size=(700, 256))
    draw_mask(masks / "0044_019_04_mask2.png", (690, 9, 695, 12), size=(700, 256))


def _elpv(folder: Path) -> None:
    rows = []
    for number, probability in enumerate((0.0, 0.0, 0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0)):
        draw(folder / f"images/cell{number:04d}.png", mode="L")
        rows.append(f"images/cell{number:04d}.png  {probability} {'mono' if number % 2 else 'poly'}")
    write_lines(folder / "labels.csv", rows)


def _textile(folder: Path) -> None:
    for kind, count in (("nominal", 6), ("local", 2), ("global", 2)):
        for number in range(count):
            draw(folder / kind / f"textile_{number:04d}.jpg")


def _oct2017(folder: Path) -> None:
    root = folder / "CellData/OCT"
    for name in ("train/NORMAL", "train/CNV", "test/NORMAL", "test/CNV", "test/DME", "test/DRUSEN"):
        for number in range(2):
            draw(root / f"{name}/{name.split('/')[1]}-{number}-1.jpeg", mode="L")
    (root / "test/.DS_Store").touch()


def _aptos(folder: Path) -> None:
    rows = ["id_code,diagnosis"]
    for number in range(8):
        draw(folder / f"train_images/id{number}.png", size=(40, 30))
        rows.append(f"id{number},{number % 4 and number // 2}")
    write_lines(folder / "train.csv", rows)


def _isic2018(folder: Path) -> None:
    for part, first in (("Training", 0), ("Validation", 3)):
        rows = [",".join(["image", *DIAGNOSES])]
        for number in range(first, first + 3):
            name, found = f"ISIC_{number:07d}", "MEL" if number in (1, 4) else "NV"
            draw(folder / f"ISIC2018_Task3_{part}_Input/{name}.jpg")
            rows.append(",".join([name, *("1.0" if found == kind else "0.0" for kind in DIAGNOSES)]))
        (folder / f"ISIC2018_Task3_{part}_Input/LICENSE.txt").touch()
        table = f"ISIC2018_Task3_{part}_GroundTruth"
        write_lines(folder / table / f"{table}.csv", rows)


def _brain_mri(folder: Path) -> None:
    for root in (folder, folder / "brain_tumor_dataset"):
        for name, mode in (
            ("no/1 no.jpeg", "L"),
            ("no/A.JPG", "RGB"),
            ("no/b.jpeg", "L"),
            ("no/c.png", "RGBA"),
        ):
            draw(root / name, mode=mode, seed=len(name))
        for name in ("yes/Y1.jpg", "yes/Y2.JPG"):
            draw(root / name, seed=len(name))


def _head_ct(folder: Path) -> None:
    for number in range(8):
        draw(folder / f"head_ct/head_ct/{number:03d}.png", mode="L")
    write_lines(
        folder / "labels.csv", ["id, hemorrhage", *(f"{number},{number % 3 % 2}" for number in range(8))]
    )


def _brats(folder: Path) -> None:
    import nibabel

    scans = np.random.default_rng(0)
    for number in range(8):
        case = f"BraTS2021_{number:05d}"
        (folder / case).mkdir()
        segmentation = np.zeros((12, 10, 6), dtype=np.uint8)
        segmentation[3:6, 2:5, 4 if number % 4 == 1 else 1] = 4
        for kind, volume in (
            ("flair", scans.integers(0, 900, (12, 10, 6)).astype(np.int16)),
            ("seg", segmentation),
        ):
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / case / f"{case}_{kind}.nii.gz")


def _mnist(folder: Path) -> None:
    for prefix, count in (("train", 40), ("t10k", 20)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
            packed = gzip.compress(header + array.tobytes(), mtime=0)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(packed)


def _cifar10(folder: Path) -> None:
    for part, count in (("train", 2), ("test", 1)):
        for name in CIFAR10_CLASSES:
            for number in range(count):
                draw(folder / f"cifar10/{part}/{name}/{number:04d}.png", size=(32, 32))


def _dtd(folder: Path) -> None:
    for texture in ("banded", "waffled"):
        for number in range(2):
            draw(folder / f"dtd/images/{texture}/{texture}_{number:04d}.jpg")
    (folder / "dtd/images/waffled/.directory").touch()
    write_lines(folder / "dtd/labels/train1.txt", ["banded/banded_0000.jpg"])


_DOWNLOADS: dict[str, Callable[[Path], None]] = {
    **recent.RECENT,
    "mvtec": _mvtec,
    "visa": _visa,
    "btad": _btad,
    "mvtec_3d": _mvtec_3d,
    "mvtec_loco": _mvtec_loco,
    "ksdd": _ksdd,
    "aitex": _aitex,
    "elpv": _elpv,
    "textile": _textile,
    "oct2017": _oct2017,
    "aptos": _aptos,
    "isic2018": _isic2018,
    "brain_mri": _brain_mri,
    "head_ct": _head_ct,
    "brats": _brats,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "dtd": _dtd,
}
