import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Generator

from adcommon.data import load_splits
from adcommon.data.preprocess import Preprocess
from adcommon.errors import DatasetNotFound, UnknownName
from adcommon.models.backbones import FeaturePyramid
from adcommon.training.settings import Settings
from uniad.data import augmented, feature_store, find_splits, on_own_images, training_features
from uniad.recipes import CIFAR10, MVTEC

PREPROCESS = Preprocess(image_size=64)


@pytest.fixture
def records(mvtec):
    return load_splits("mvtec", mvtec, ("bottle", "cable"))["bottle"].train


def first_batches(model, records, recipe, count: int, start: int = 0, **options) -> list[torch.Tensor]:
    batches = training_features(
        model,
        records,
        PREPROCESS,
        recipe,
        Accelerator(cpu=True),
        start=start,
        cache=options.pop("cache", False),
        workers=options.pop("workers", 0),
    )
    return [batch.clone() for batch in islice(batches, count)]


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Images in each pass through the backbone."""
    seen, forward = [], FeaturePyramid.forward

    def counting(self, images):
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(FeaturePyramid, "forward", counting)
    return seen


def test_kept_features_are_computed_once_and_are_those_of_every_epoch(
    make_model, records, tiny, passes
) -> None:
    model = make_model()
    kept = first_batches(model, records, tiny, 6)
    assert sum(passes) == len(records)
    computed = first_batches(model, records, replace(tiny, cache_features=False), 6)
    for one, other in zip(kept, computed, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_features_on_disk_are_those_of_memory_and_spare_a_second_run_the_backbone(
    make_model, records, tiny, passes
) -> None:
    model = make_model()
    expected = first_batches(model, records, tiny, 3)
    first_batches(model, records, tiny, 3, cache=True)
    passes.clear()
    again = first_batches(model, records, tiny, 3, cache=True)
    assert passes == []
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))


def test_a_later_start_continues_the_order(make_model, records, tiny) -> None:
    model = make_model()
    whole = first_batches(model, records, tiny, 5)
    assert torch.equal(first_batches(model, records, tiny, 1, start=4)[0], whole[4])


def test_augmented_images_are_never_kept(make_model, records, tiny, passes) -> None:
    first_batches(make_model(), records, replace(tiny, hflip=True), 4)
    assert sum(passes) == 2 * len(records)


def test_each_change_acts_when_asked_for_and_alone() -> None:
    pixels = torch.randint(0, 256, (32, 8, 8, 3), dtype=torch.uint8)

    def changed(**chances):
        return augmented(pixels, replace(MVTEC, **chances), Generator().manual_seed(0))

    mirrored = [torch.equal(a, b.flip(1)) for a, b in zip(changed(hflip=True), pixels, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(changed(hflip=True), pixels, strict=True)]
    assert [a != b for a, b in zip(mirrored, same, strict=True)] == [True] * 32
    assert 4 < sum(mirrored) < 28
    turned = zip(changed(rotate=True), pixels, strict=True)
    assert len({next(k for k in range(4) if torch.equal(a, b.rot90(k, (0, 1)))) for a, b in turned}) > 2
    assert not torch.equal(changed(colorjitter=1.0), pixels)


def test_processes_change_images_as_this_one_does(make_model, records, tiny) -> None:
    changing = replace(tiny, hflip=True, colorjitter=0.5)
    model = make_model()
    alone = first_batches(model, records, changing, 3)
    for one, other in zip(alone, first_batches(model, records, changing, 3, workers=2), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(first_batches(model, records, changing, 1, start=2)[0], alone[2])


def test_a_store_holds_one_aligned_map_per_image(make_model, records) -> None:
    store = feature_store(make_model(), records, PREPROCESS, cache=False)
    (features,) = store.batch([0, 2])
    assert features.shape == (2, 24 + 32 + 48, 4, 4)


@pytest.fixture
def lists(mvtec: Path, tmp_path: Path):
    """The recipe with lists of two categories in the authors' form."""
    root = mvtec / "mvtec_anomaly_detection"
    lines: dict[str, list[dict]] = {"train": [], "test": []}
    for path in sorted(root.glob("*/t*/*/*.png")):
        name = path.relative_to(root)
        category, part, defect = name.parts[:3]
        entry = {"filename": str(name), "label": int(defect != "good"), "clsname": category}
        if defect != "good":
            entry["maskname"] = f"{category}/ground_truth/{defect}/{path.stem}_mask.png"
        lines[part].append(entry)
    for part, entries in lines.items():
        (tmp_path / f"{part}.json").write_text("\n".join(map(json.dumps, entries)))
    return replace(
        MVTEC, meta_train=tmp_path / "train.json", meta_test=tmp_path / "test.json", image_dir=root
    )


def test_the_authors_lists_give_the_splits_of_the_tree(lists, mvtec) -> None:
    listed = find_splits(lists, Path("unused"), ())
    scanned = find_splits(MVTEC, mvtec, ("bottle", "cable"))
    assert listed == scanned
    assert list(find_splits(lists, Path("unused"), ("cable",))) == ["cable"]


def test_a_category_that_no_list_has_is_named(lists) -> None:
    with pytest.raises(UnknownName, match=r"'pill'\. Known: bottle, cable"):
        find_splits(lists, Path("unused"), ("pill",))


def test_own_images_have_no_papers_dataset(lists) -> None:
    assert on_own_images(MVTEC, Settings()).dataset == "mvtec"
    assert on_own_images(MVTEC, Settings(data=Path("images"))).dataset == "folder"
    assert on_own_images(lists, Settings()).dataset == "folder"


def test_cifar_runs_the_papers_splits_unless_told_otherwise(tmp_path, monkeypatch) -> None:
    asked = []

    def load(name, root, categories, *, meaning):
        asked.append(categories)
        return {}

    monkeypatch.setattr("uniad.data.load_splits", load)
    find_splits(CIFAR10, tmp_path, ())
    find_splits(replace(CIFAR10, normals=("0123",)), tmp_path, ())
    find_splits(CIFAR10, tmp_path, ("cat",))
    assert asked == [("01234", "56789", "02468", "13579"), ("0123",), ("cat",)]


def test_missing_data_are_explained(tmp_path) -> None:
    with pytest.raises(DatasetNotFound, match="mvtec_anomaly_detection"):
        find_splits(MVTEC, tmp_path, ())
