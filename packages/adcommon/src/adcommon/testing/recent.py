"""Tiny copies of the downloads of datasets that none of the five papers uses, and of own annotated images."""

import json
from collections.abc import Callable
from pathlib import Path

from adcommon.testing.drawn import draw, draw_mask, write_lines


def _mvtec_ad_2(folder: Path) -> None:
    root = folder / "mvtec_ad_2/can"
    for part in ("train/good", "validation/good", "test_public/good", "test_public/bad"):
        draw(root / part / "000_regular.png")
    draw_mask(root / "test_public/ground_truth/bad/000_regular_mask.png", (2, 2, 5, 5))
    for part in ("test_private", "test_private_mixed"):
        draw(root / part / "000_regular.png")


def _real_iad(folder: Path) -> None:
    def entry(split: str, anomaly: str, view: str) -> dict[str, object]:
        place = "OK/S0001" if anomaly == "OK" else f"NG/{anomaly}/S0002"
        image = f"{place}/usb_{split}_{anomaly}_{view}_20231021.jpg"
        mask = None if anomaly == "OK" else image.replace(".jpg", "_mask.png")
        draw(folder / "realiad_256/usb" / image)
        if mask:
            draw_mask(folder / "realiad_256/usb" / mask, (2, 2, 5, 5))
        return {"category": "usb", "anomaly_class": anomaly, "image_path": image, "mask_path": mask}

    lists = {
        "meta": {"prefix": "usb/", "normal_class": "OK"},
        "train": [entry("train", "OK", view) for view in ("C1", "C2")],
        "test": [entry("test", anomaly, view) for anomaly in ("OK", "AK") for view in ("C1", "C2")],
    }
    write_lines(folder / "realiad_jsons/realiad_jsons/usb.json", [json.dumps(lists)])


def _autovi(folder: Path) -> None:
    root = folder / "pipe_clip"
    for part in ("train/good/0000", "train/good/0001", "test/good/0002", "test/unclipped/0089"):
        draw(root / f"{part}.png")
    draw_mask(root / "ground_truth/unclipped/0089/0000.png", (2, 2, 5, 5))


def _vad(folder: Path) -> None:
    for part in ("train/good", "train/bad", "test/good", "test/bad", "test/bad_unseen_defects"):
        draw(folder / "vad" / part / "0001.png")


def _bmad(folder: Path) -> None:
    for name, inner in (("Brain_AD/BraTS2021_slice", "/img"), ("Chest_AD/Chest-RSNA", "")):
        for part in ("train/good", "valid/good", "test/good", "test/Ungood"):
            draw(folder / f"{name}/{part}{inner}/{part[-4:]}_60.png", mode="L")
    draw_mask(folder / "Brain_AD/BraTS2021_slice/test/Ungood/label/good_60.png", (2, 2, 5, 5))


def _ksdd2(folder: Path) -> None:
    for part, first in (("train", 10000), ("test", 20000)):
        for number in range(first, first + 4):
            draw(folder / f"{part}/{number}.png")
            box = (2, 2, 5, 5) if number == first + 1 else (0, 0, 0, 0)
            draw_mask(folder / f"{part}/{number}_GT.png", box)


def _dagm(folder: Path) -> None:
    for part, first in (("Train", 1), ("Test", 5)):
        root = folder / "Class1/Class1" / part
        for number in range(first, first + 4):
            draw(root / f"{number:04d}.PNG", mode="L")
        draw_mask(root / f"Label/{first:04d}_label.PNG", (2, 2, 5, 5))
        write_lines(root / "Label/Labels.txt", ["1"])


def _coco(folder: Path) -> None:
    images = [{"id": n, "file_name": f"{n:04d}.png", "width": 16, "height": 12} for n in range(6)]
    for image in images:
        draw(folder / f"images/{image['file_name']}")
    square = {"segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]], "bbox": [2, 2, 3, 3], "iscrowd": 0}
    annotations = [{"id": n, "image_id": n, "category_id": 1, **square} for n in (4, 5)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "scratch"}]}
    write_lines(folder / "annotations/instances_default.json", [json.dumps(content)])


RECENT: dict[str, Callable[[Path], None]] = {
    "mvtec_ad_2": _mvtec_ad_2,
    "real_iad": _real_iad,
    "autovi": _autovi,
    "vad": _vad,
    "bmad": _bmad,
    "ksdd2": _ksdd2,
    "dagm": _dagm,
    "coco": _coco,
}
"""What draws each, by the name of its preparer."""
