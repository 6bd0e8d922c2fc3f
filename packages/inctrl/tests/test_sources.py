from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.errors import BadValue, UnknownName, UserError
from inctrl.compat.lists import scan, write_lists
from inctrl.sources import LISTS, datasets_of, find_targets, training_records


def test_all_normal_and_anomalous_images_train(tiny, data_root: Path) -> None:
    records = training_records(tiny, data_root, ("bottle", "cable"))
    assert {record.category for record in records} == {"bottle", "cable"}
    assert sum(record.label for record in records) == 6
    assert len(records) == 2 * (4 + 3 + 3)
    assert {record.category for record in training_records(tiny, data_root, ("cable",))} == {"cable"}


def test_a_category_is_found_in_its_dataset(tiny, data_root: Path) -> None:
    assert datasets_of(["candle", "even"]) == ("visa/candle", "mnist/even")
    (target,) = find_targets(replace(tiny, test_datasets=datasets_of(["candle"])), data_root, ("candle",))
    assert (target.folder, len(target.test), len(target.normal)) == ("visa/candle", 6, 4)
    with pytest.raises(UnknownName, match="did you mean 'candle'"):
        datasets_of(["candel"])


def test_all_that_is_missing_is_said_at_once(tiny, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"VisA(.|\n)*KolektorSDD"):
        find_targets(replace(tiny, test_datasets=("visa", "ksdd")), tmp_path)


def test_a_dataset_in_parts_takes_the_part(tiny, data_root: Path) -> None:
    targets = find_targets(replace(tiny, test_datasets=("mvtec/cable", "visa/candle")), data_root)
    assert [target.folder for target in targets] == ["mvtec/cable", "visa/candle"]
    chosen = find_targets(replace(tiny, test_datasets=("mvtec/cable", "visa/candle")), data_root, ("candle",))
    assert [target.category for target in chosen] == ["candle"]


def test_the_authors_lists_train_and_test(tiny, data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "mvtec_anomaly_detection"
    for name in ("bottle", "cable"):
        for part in ("train", "val"):
            write_lists(part, tmp_path, name, scan(folder / name, name).split)
    lists = {
        "normal_json_path": tuple(tmp_path / f"{name}_normal.json" for name in ("bottle", "cable")),
        "outlier_json_path": tuple(tmp_path / f"{name}_outlier.json" for name in ("bottle", "cable")),
        "val_normal_json_path": (tmp_path / "cable_val_normal.json",),
        "val_outlier_json_path": (tmp_path / "cable_val_outlier.json",),
    }
    recipe = replace(tiny, **lists)
    found = training_records(tiny, data_root, ("bottle", "cable"))
    by_name = {(r.image.resolve(), r.label) for r in found}
    assert {(r.image.resolve(), r.label) for r in training_records(recipe, tmp_path)} == by_name
    (target,) = find_targets(recipe, tmp_path)
    assert (target.dataset, target.category, len(target.test), len(target.normal)) == (LISTS, "cable", 6, 4)
    # Without lists of training images, the tree beside the test images has them.
    alone = replace(recipe, normal_json_path=(), outlier_json_path=())
    assert len(find_targets(alone, tmp_path)[0].normal) == 4
    with pytest.raises(UnknownName, match="category of the lists"):
        find_targets(recipe, tmp_path, ("bottle",))


def test_a_category_of_several_datasets_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    from inctrl import sources

    doubled = {"one": sources.DATASETS["visa"], "two": sources.DATASETS["visa"]}
    monkeypatch.setattr(sources, "DATASETS", doubled)
    with pytest.raises(BadValue, match="is in one, two; say which with --dataset"):
        datasets_of(["candle"])
