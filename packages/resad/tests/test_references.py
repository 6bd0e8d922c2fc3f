import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adcommon.data import load_splits
from adcommon.data.normalise import normalise
from adcommon.errors import BadValue, DatasetNotFound, EmptySplit, Leak
from adcommon.io.images import list_images
from adcommon.types.records import Record
from resad.backbone import build_backbone, make_preprocess
from resad.compat.features import feature_facts, write
from resad.network.residual import as_rows
from resad.recipes import Recipe
from resad.references import (
    ReferenceSource,
    encode,
    few_shot_images,
    make_targets,
    refuse_missing,
    without_references,
)


@pytest.fixture
def make(trees: Path, recipe: Recipe):
    splits = load_splits("visa", trees, ("candle", "pcb1"))
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)

    def make(source=None, dataset: str = "visa", **changed: object):
        new = replace(recipe, **changed)
        given = source or ReferenceSource()
        named = {name: replace(split, dataset=dataset) for name, split in splits.items()}
        return list(make_targets(named, backbone, preprocess, new, given, cache=None, memory_bytes=2**28))

    return make


def test_rows_are_image_by_image_whatever_the_batch(trees: Path, recipe: Recipe) -> None:
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    images = list_images(trees / "visa/candle/train/good")[:3]
    references = encode(backbone, images, preprocess, batch_size=2)
    assert references.names == tuple(images)
    pixels = normalise(np.stack([preprocess.pixels(name) for name in images]), preprocess)
    for level, maps in zip(references.levels, backbone(pixels), strict=True):
        torch.testing.assert_close(level.rows, as_rows(maps), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(level.unit.norm(dim=1), torch.ones(len(level.rows)))


def test_turned_references_stay_with_their_image(trees: Path, recipe: Recipe) -> None:
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    images = list_images(trees / "visa/candle/train/good")[:3]
    plain, turned = (encode(backbone, images, preprocess, batch_size=2, rotations=count) for count in (1, 4))
    assert turned.images == 3
    pixels = normalise(np.stack([preprocess.pixels(name) for name in images]), preprocess)
    for number in range(4):
        for level, all_ways, maps in zip(
            plain.levels, turned.levels, backbone(pixels.rot90(number, dims=(2, 3))), strict=True
        ):
            rows = all_ways.rows.unflatten(0, (3, 4, len(level.rows) // 3))[:, number]
            torch.testing.assert_close(rows.flatten(0, 1), as_rows(maps), atol=1e-5, rtol=1e-4)


def test_references_are_drawn_per_seed_and_from_training_images(make) -> None:
    candle, pcb1 = make(reference_seeds=(0, 1))
    assert [draw.name for draw in candle.draws] == ["seed 0", "seed 1"]
    first, second = (draw.references.names for draw in candle.draws)
    assert first != second
    assert candle.names == [name.resolve() for name in first]
    assert make(reference_seeds=(1,))[0].draws[0].references.names == second
    assert all("train/good" in str(name) for name in first)
    assert candle.draws[0].references.images == 3
    assert [len(target.records) for target in (candle, pcb1)] == [6, 6]


def test_a_reference_among_the_test_images_is_left_out_even_as_a_copy(
    make, trees: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "4shot/candle/train/good"
    folder.mkdir(parents=True)
    for place in range(3):
        shutil.copy(trees / f"visa/candle/test/good/{place:03d}.png", folder / f"renamed{place}.png")
    shutil.copytree(trees / "visa/pcb1/train/good", tmp_path / "4shot/pcb1/train/good")
    source = ReferenceSource(images=tmp_path / "4shot")
    candle, pcb1 = make(source)
    assert [record.label for record in candle.records] == [1, 1, 1]
    assert len(pcb1.records) == 6
    assert len(make(source, exclude_refs=False)[0].records) == 6
    with pytest.raises(Leak, match="3 test images are references too"):
        make(source, "folder", exclude_refs=False)
    assert len(make(source, "folder")[0].records) == 3
    for place in range(3):
        Image.open(folder / f"renamed{place}.png").save(folder / f"renamed{place}.png", compress_level=0)
    with pytest.raises(Leak, match="3 test images are references too"):
        make(source, "folder")


def test_feature_files_serve_as_references(make, recipe: Recipe, tmp_path: Path) -> None:
    drawn = make()
    facts = feature_facts(recipe, make_preprocess(recipe))
    for target in drawn:
        write(tmp_path / "features" / target.category, target.draws[0].references, facts)
    (candle, _) = make(ReferenceSource(features=tmp_path / "features"))
    assert candle.draws[0].references.names == drawn[0].draws[0].references.names
    with pytest.raises(BadValue, match="there are 3"):
        make(ReferenceSource(features=tmp_path / "features"), shots=(4,))


def test_choices_per_image_are_positions_in_the_training_images(make, tmp_path: Path) -> None:
    for name in ("candle", "pcb1"):
        np.save(tmp_path / f"{name}_knn_indices.npy", np.tile([5, 0, 2, 1], (6, 1)))
    candle, _ = make(ReferenceSource(aligned=tmp_path))
    (draw,) = candle.draws
    assert candle.aligned
    assert (draw.name, candle.names) == ("aligned", [])
    assert draw.choice[2].tolist() == [5, 0, 2]
    assert len(draw.pool) == 6
    assert draw.of(2).images == 3


def test_few_shot_folders_are_read_in_order_and_missed_by_name(trees: Path, tmp_path: Path) -> None:
    images = few_shot_images(trees / "visa", "candle")
    assert [image.name for image in images] == [f"{place:03d}.png" for place in range(6)]
    with pytest.raises(DatasetNotFound, match="nothing"):
        few_shot_images(trees / "visa", "nothing")
    (tmp_path / "empty/train/good").mkdir(parents=True)
    with pytest.raises(EmptySplit, match="empty"):
        few_shot_images(tmp_path, "empty")


def test_nothing_is_left_out_without_references(trees: Path) -> None:
    record = Record(trees / "visa/candle/test/good/000.png", "candle", 0)
    assert without_references([record], []) == [record]
    assert without_references([record], [record.image]) == []


def test_missing_references_are_said_with_category_count_and_remedy(
    trees: Path, recipe: Recipe, tmp_path: Path
) -> None:
    splits = load_splits("visa", trees, ("candle",))
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    found = len(splits["candle"].train)

    def look(shots: int, **source: Path) -> None:
        wanted = replace(recipe, shots=(shots,))
        refuse_missing(splits, backbone, preprocess, wanted, ReferenceSource(**source))

    look(found)
    look(found, images=trees / "visa")
    for source in ({}, {"images": trees / "visa"}):
        with pytest.raises(BadValue, match=rf"'candle'.*: {found}, and shots is 99; use --shots {found}"):
            look(99, **source)
    with pytest.raises(DatasetNotFound, match="no reference features"):
        look(1, features=tmp_path)
