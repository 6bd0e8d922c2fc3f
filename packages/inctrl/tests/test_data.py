import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.errors import BadValue, EmptySplit, UnknownName, UserError
from adcommon.types.records import Record
from inctrl import data
from inctrl.compat.lists import scan, write_lists
from inctrl.data import (
    LISTS,
    ReferenceDraw,
    balanced_indices,
    datasets_asked_for,
    datasets_of,
    find_targets,
    listed_targets,
    query_indices,
    training_records,
)

LABELS = [0, 0, 0, 1, 0, 1, 0]


def records() -> list[Record]:
    return [Record(Path(str(n)), "ab"[n > 3], label) for n, label in enumerate(LABELS)]


@pytest.mark.parametrize("size", [2, 4, 5])
def test_a_batch_is_half_normal_then_anomalous_and_every_pass_sees_all(size: int) -> None:
    batches = balanced_indices(LABELS, size, seed=3)
    seen: list[int] = []
    for _ in range(10):
        batch = next(batches)
        assert [LABELS[index] for index in batch] == [0] * (size // 2) + [1] * (size - size // 2)
        seen += [index for index in batch if LABELS[index] == 0]
    assert sorted(seen[:5]) == [0, 1, 2, 4, 6]
    assert sorted(seen[5:10]) == [0, 1, 2, 4, 6]


def test_one_kind_alone_cannot_be_trained_on() -> None:
    with pytest.raises(EmptySplit, match="no anomalous images"):
        balanced_indices([0, 0], 4, seed=0)


def test_references_are_different_normal_images_of_the_querys_category() -> None:
    own = records()
    draw = ReferenceDraw(own, 2, 0, self_reference=True)
    for step in range(20):
        for query, chosen in zip(range(7), draw(step, range(7)), strict=True):
            assert len(set(chosen)) == 2
            assert all(own[n].label == 0 and own[n].category == own[query].category for n in chosen)
    assert draw(3, [0, 1]) == ReferenceDraw(own, 2, 0, self_reference=True)(3, [0, 1])
    assert any(draw(step, [0]) != draw(step + 1, [0]) for step in range(5))


def test_a_query_is_its_own_reference_only_where_that_is_allowed() -> None:
    own = records()
    for allowed in (True, False):
        draw = ReferenceDraw(own, 1, 0, self_reference=allowed)
        hit = any(draw(step, [0]) == [[0]] for step in range(50))
        assert hit == allowed


def test_too_few_normal_images_are_an_error_that_names_the_category() -> None:
    with pytest.raises(BadValue, match="of 'b' to train with: 1, and shots is 2; use --shots 1"):
        ReferenceDraw(records()[4:6], 2, 0, self_reference=True)


def test_batches_of_the_references_evaluations_are_passed_over(tiny) -> None:
    labels = [0] * 9 + [1] * 9
    own = [Record(Path("x"), "a", label) for label in labels]
    recipe = replace(tiny, draw_evaluation=True)
    whole = list(itertools.islice(balanced_indices(labels, recipe.batch_size, seed=recipe.seed), 9))
    ours = list(itertools.islice(query_indices(own, recipe), 6))
    assert ours == whole[:3] + whole[6:9]
    assert list(itertools.islice(query_indices(own, recipe, start=4), 2)) == ours[4:]
    plain = query_indices(own, replace(recipe, draw_evaluation=False))
    assert list(itertools.islice(plain, 6)) == whole[:6]


def test_all_normal_and_anomalous_images_train(tiny, data_root: Path) -> None:
    records = training_records(tiny, data_root, ("bottle", "cable"))
    assert {record.category for record in records} == {"bottle", "cable"}
    assert sum(record.label for record in records) == 6
    assert len(records) == 2 * (4 + 3 + 3)
    assert {record.category for record in training_records(tiny, data_root, ("cable",))} == {"cable"}


def test_a_category_is_found_in_its_dataset(data_root: Path) -> None:
    assert datasets_of(["candle", "even"]) == ("visa/candle", "mnist/even")
    (target,) = find_targets(datasets_of(["candle"]), data_root, ("candle",))
    assert (target.dataset, target.category, len(target.test), len(target.train)) == ("visa", "candle", 6, 4)
    with pytest.raises(UnknownName, match="did you mean 'candle'"):
        datasets_of(["candel"])


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"VisA(.|\n)*KolektorSDD"):
        find_targets(("visa", "ksdd"), tmp_path)


def test_a_dataset_in_parts_takes_the_part(data_root: Path) -> None:
    names = ("mvtec/cable", "visa/candle")
    targets = find_targets(names, data_root)
    assert [(target.dataset, target.category) for target in targets] == [
        ("mvtec", "cable"),
        ("visa", "candle"),
    ]
    chosen = find_targets(names, data_root, ("candle",))
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
    (target,) = listed_targets(recipe, tmp_path)
    assert (target.dataset, target.category, len(target.test), len(target.train)) == (LISTS, "cable", 6, 4)
    # Without lists of training images, the tree beside the test images has them.
    alone = replace(recipe, normal_json_path=(), outlier_json_path=())
    assert len(listed_targets(alone, tmp_path)[0].train) == 4
    with pytest.raises(UnknownName, match="category in the lists"):
        listed_targets(recipe, tmp_path, ("bottle",))


def test_a_category_of_several_datasets_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    doubled = {"one": data.DATASETS["visa"], "two": data.DATASETS["visa"]}
    monkeypatch.setattr(data, "DATASETS", doubled)
    with pytest.raises(BadValue, match="is in one, two; say which with --dataset"):
        datasets_of(["candle"])


def test_flags_say_what_is_tested() -> None:
    assert datasets_asked_for(Path("mine"), None, ()) == ("folder",)
    assert datasets_asked_for(None, "visa", ("candle",)) == ("visa",)
    assert datasets_asked_for(None, None, ("candle",)) == ("visa/candle",)
    with pytest.raises(BadValue, match="what is to be tested"):
        datasets_asked_for(None, None, ())
