from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.data import load_splits
from adcommon.data.order import epoch_order
from adcommon.errors import BadValue, MaskMissing
from adcommon.types.records import Split
from resad.backbone import build_backbone, make_preprocess
from resad.data import Plan, TrainingData
from resad.network.residual import ReferenceRows, as_rows, match, residual
from resad.recipes import Recipe

CPU = torch.device("cpu")


@pytest.fixture
def splits(trees: Path) -> dict[str, Split]:
    return load_splits("mvtec", trees, ("bottle", "cable"))


@pytest.fixture
def make(splits, recipe: Recipe):
    """Training data with a changed recipe, or other splits."""
    backbone = build_backbone(recipe, "random")

    def make(given=None, memory_bytes: int = 2**30, **changed: object) -> TrainingData:
        new = replace(recipe, **changed)
        return TrainingData(given or splits, backbone, make_preprocess(new), new, memory_bytes=memory_bytes)

    return make


def test_stage_1_is_normal_and_stage_2_has_the_test_images_too(make) -> None:
    data = make()
    assert {data.records[place].label for place in data.first_stage} == {0}
    assert len(data.first_stage) == 12
    labels = [data.records[place].label for place in data.second_stage]
    assert (len(labels), sum(labels)) == (24, 6)
    assert data.plan() == Plan(1, 2, 3, 6)


def test_a_plan_places_every_step() -> None:
    plan = Plan(1, 3, 2, 3)
    assert plan.steps == 8
    assert [plan.place(step) for step in range(8)] == [
        *((0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2))
    ]
    assert [done for done in range(1, 9) if plan.ends_epoch(done)] == [2, 5, 8]


def test_an_epoch_shows_every_image_at_most_once_and_differs_from_the_next(make) -> None:
    data = make()
    seen = [name for number in range(6) for name in data.batch(1, number, CPU).categories]
    assert len(seen) == 24
    assert sorted(seen).count("bottle") == 12
    first, again, other = (data.batch(epoch, 0, CPU) for epoch in (1, 1, 2))
    assert torch.equal(first.residuals[0], again.residuals[0])
    assert not torch.equal(first.residuals[0], other.residuals[0])


def test_residuals_are_to_the_references_drawn_and_the_memory_changes_nothing(make, recipe: Recipe) -> None:
    data = make()
    batch = data.batch(0, 0, CPU)
    forgetful = make(memory_bytes=0).batch(0, 0, CPU)
    for level, maps in enumerate(batch.residuals):
        torch.testing.assert_close(maps, forgetful.residuals[level])
    queries = [data.first_stage[place] for place in epoch_order(12, recipe.seed, 0)[:4]]
    chosen = data.draw(batch.categories[0], 0, 0, queries)
    rows = ReferenceRows.of(as_rows(data.store.batch(chosen)[0]))
    maps = data.store.batch(queries[:1])[0]
    torch.testing.assert_close(batch.residuals[0][:1], residual(maps, match(maps, rows), recipe.residual))


def test_processes_share_a_batch_and_its_references(make) -> None:
    data = make()
    whole = data.batch(1, 2, CPU)
    parts = [data.batch(1, 2, CPU, rank=rank, world=2) for rank in (0, 1)]
    assert parts[0].categories + parts[1].categories == whole.categories
    torch.testing.assert_close(torch.cat([part.residuals[1] for part in parts]), whole.residuals[1])


def test_references_are_other_images_of_the_category_unless_too_few(make) -> None:
    data = make(train_ref_shot=3)
    pool = data.pools["cable"]
    for number in range(20):
        chosen = data.draw("cable", 0, number, pool[:2])
        assert len(set(chosen)) == 3
        assert not set(chosen) & set(pool[:2])
    assert set(data.draw("cable", 0, 0, pool[:4])) <= set(pool)
    faithful = make(train_ref_shot=20, exclude_query=False, reference_replacement=True)
    assert len(faithful.draw("cable", 0, 0, ())) == 20


def test_visas_references_come_from_all_normal_images_as_the_authors_draw_them(make, trees: Path) -> None:
    visa = load_splits("visa", trees, ("candle", "pcb1"))
    data = make(visa, setting="visa_to_mvtec", reference_pool="auto")
    assert len(data.pools["candle"]) == 9
    assert len(make(visa, setting="visa_to_mvtec", reference_pool="train").pools["candle"]) == 6


def test_masks_lie_on_the_levels(make) -> None:
    data = make()
    for number in range(6):
        batch = data.batch(1, number, CPU)
        assert [tuple(mask.shape) for mask in batch.masks] == [(4, 8, 8), (4, 4, 4)]
    anomalous = [place for place in data.second_stage if data.records[place].label]
    assert all(data._mask(place).any() for place in anomalous)


def test_what_cannot_work_is_said_before_training(make, splits) -> None:
    with pytest.raises(BadValue, match="--train_ref_shot draws 7"):
        make(train_ref_shot=7)
    blind = {
        name: Split(split.train, [replace(record, mask=None) for record in split.test])
        for name, split in splits.items()
    }
    with pytest.raises(MaskMissing, match=r"6 anomalous images.*--first_stage_epochs 2"):
        make(blind)
    assert make(blind, first_stage_epochs=2).plan().second_stage_steps == 0
    with pytest.raises(BadValue, match="make no batch"):
        make(batch_size=20).plan()


def test_residual_scale_makes_features_unit_variance(make) -> None:
    assert make().residual_scale() == [1.0, 1.0]
    data = make(scale_residuals=True)
    (first, _), maps = data.residual_scale(), data.store.batch(data.first_stage)
    assert float((maps[0] * first**0.5).var()) == pytest.approx(1, abs=1e-4)
    root = make(scale_residuals=True, residual="subtract").residual_scale()[0]
    assert root == pytest.approx(first**0.5)
