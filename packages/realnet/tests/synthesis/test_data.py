from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from adcommon.data.loading import AnomalyDataset
from adcommon.data.normalise import normalise, unnormalise
from adcommon.data.order import train_indices
from adcommon.errors import BadValue, UnreadableImage
from adcommon.io.cache import DiskCache
from realnet.synthesis import foreground
from realnet.synthesis.data import ItemBatch, TrainingItems, item_batches
from realnet.synthesis.foreground import ALL, NAMED, ForegroundRule
from realnet.synthesis.perlin import PerlinScales


class Flat:
    """A source of one colour."""

    def __init__(self, level: int) -> None:
        self.level = level

    def draw(self, generator, count: int, size: int) -> np.ndarray:
        return np.full((count, size, size, 3), self.level, dtype=np.uint8)


SHARES = {"normal": 0.5, "sdas": 0.25, "dtd": 0.25}
OPACITY = {"sdas": (1.0, 1.0), "dtd": (0.5, 0.75)}


def make(dataset, *, seed: int = 7, rule: ForegroundRule = ALL, **changes) -> TrainingItems:
    options = {
        "sources": {"sdas": Flat(255), "dtd": Flat(0)},
        "shares": SHARES,
        "opacity": OPACITY,
        "scales": PerlinScales(3),
    }
    return TrainingItems(dataset=dataset, foreground=rule, seed=seed, **{**options, **changes})


def equal(one: ItemBatch, other: ItemBatch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("clean", "images", "masks", "anomalous", "indices")
    )


def test_an_item_is_its_image_and_the_source_inside_the_mask(normal_dataset) -> None:
    dataset = normal_dataset()
    items = make(dataset, shares={"normal": 0.0, "sdas": 1.0})
    batch = items.batch([4, 0, 2], step=1)
    assert torch.equal(batch.clean, dataset.batch([4, 0, 2]).images)
    assert batch.indices.tolist() == [4, 0, 2]
    assert batch.anomalous.all()
    white = normalise(np.full((1, 1, 1, 3), 255, dtype=np.uint8), dataset.preprocess)[0]
    expected = torch.where(batch.masks[:, None] > 0, white, batch.clean)
    assert torch.equal(batch.images, expected)
    assert 0 < batch.masks.mean() < 0.5
    assert set(batch.masks.unique().tolist()) == {0.0, 1.0}


def test_normal_items_are_the_images_themselves_without_a_mask(normal_dataset) -> None:
    batch = make(normal_dataset(12)).batch(range(12), step=0)
    normal = ~batch.anomalous
    assert 0 < normal.sum() < 12
    assert torch.equal(batch.images[normal], batch.clean[normal])
    assert batch.masks[normal].sum() == 0
    assert not torch.equal(batch.images, batch.clean)


def test_kinds_and_opacities_are_drawn_as_told(normal_dataset) -> None:
    dataset = normal_dataset(8)
    items = make(dataset)
    brighter = darker = normal = 0
    lowest, highest = 1.0, 0.0
    for step in range(60):
        batch = items.batch(range(8), step)
        levels, clean = (
            unnormalise(images, dataset.preprocess).astype(float) for images in (batch.images, batch.clean)
        )
        normal += int((~batch.anomalous).sum())
        for image, before, mask in zip(levels, clean, batch.masks.numpy() > 0, strict=True):
            if mask.any():
                brighter += bool((image[mask] == 255).all())
                if (image[mask] < before[mask]).all():
                    darker += 1
                    opacity = 1 - image[mask].sum() / before[mask].sum()
                    lowest, highest = min(lowest, opacity), max(highest, opacity)
    assert normal / 480 == pytest.approx(0.5, abs=0.08)
    assert brighter == pytest.approx(darker, rel=0.4)
    assert 0.49 < lowest < 0.53
    assert 0.72 < highest < 0.77


def test_choosing_features_sees_anomalies_only_each_source_alike(normal_dataset) -> None:
    items = make(normal_dataset(8), shares={"normal": 0.5, "sdas": 0.45, "dtd": 0.05}, opacity=OPACITY)
    batches = [items.batch(range(8), step, normals=False) for step in range(20)]
    assert all(batch.anomalous.all() for batch in batches)
    darker = sum(
        int((image.sum() < clean.sum()).item())
        for batch in batches
        for image, clean in zip(batch.images, batch.clean, strict=True)
    )
    assert 50 < darker < 110


def test_a_batch_depends_on_seed_step_and_images_alone(normal_dataset) -> None:
    dataset = normal_dataset()
    items, others = make(dataset), make(dataset)
    first = items.batch([0, 1, 2], 5)
    items.batch([3, 4], 6)
    assert equal(first, items.batch([0, 1, 2], 5))
    assert equal(first, others.batch([0, 1, 2], 5))
    for different in (items.batch([0, 1, 2], 6), make(dataset, seed=8).batch([0, 1, 2], 5)):
        assert not torch.equal(first.masks, different.masks)


def test_anomalies_lie_in_the_foreground_which_is_found_once_per_image(normal_dataset, monkeypatch) -> None:
    dataset = normal_dataset()
    for record in dataset.records:
        halves = np.zeros((64, 64, 3), dtype=np.uint8)
        halves[:, 32:] = 200
        Image.fromarray(halves).save(record.image)
    found, threshold = [], foreground.otsu_threshold
    monkeypatch.setattr(foreground, "otsu_threshold", lambda values: found.append(1) or threshold(values))
    items = make(dataset, rule=NAMED["otsu-bright"], shares={"normal": 0.0, "sdas": 1.0})
    masks = torch.stack([items.batch(range(6), step).masks for step in range(5)])
    assert masks[..., :16].sum() == 0
    assert masks[..., 16:].sum() > 0
    assert len(found) == 6


def test_foregrounds_on_disk_spare_the_next_run_from_finding_them(
    normal_dataset, tmp_path, monkeypatch
) -> None:
    rule = NAMED["triangle-dark"]
    cache = DiskCache(tmp_path / "kept")
    first = make(normal_dataset(cache=cache), rule=rule).batch(range(6), 0)
    monkeypatch.setattr(foreground, "triangle_threshold", None)
    assert equal(first, make(normal_dataset(cache=cache), rule=rule).batch(range(6), 0))


def test_empty_masks_may_be_drawn_again_but_not_forever(normal_dataset) -> None:
    dataset, only = normal_dataset(8), {"normal": 0.0, "sdas": 1.0}

    def empty(**options) -> int:
        items = make(dataset, shares=only, scales=PerlinScales(1), **options)
        masks = torch.cat([items.batch(range(8), step).masks for step in range(12)])
        return int((masks.sum(dim=(1, 2)) == 0).sum())

    assert empty() > 20
    assert empty(redraw_empty=True) < 5
    for record in dataset.records:
        Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(record.image)
    dataset = AnomalyDataset(dataset.records, dataset.preprocess)
    assert empty(redraw_empty=True, rule=NAMED["otsu-bright"]) == 12 * 8


def test_masks_can_leave_out_what_looks_the_same_as_before(normal_dataset) -> None:
    """Of a source that is the image itself in its left half, only the right half is an anomaly."""
    dataset = normal_dataset()

    class HalfItself:
        def draw(self, generator, count: int, size: int) -> np.ndarray:
            images = dataset.pixels([2] * count).copy()
            images[:, :, size // 2 :] += np.uint8(128)  # around the corner: another colour everywhere
            return images

    options = {"sources": {"sdas": HalfItself()}, "shares": {"sdas": 1.0}, "opacity": {"sdas": (1.0, 1.0)}}
    everything = make(dataset, **options).batch([2, 2], step=1)
    seen = make(dataset, **options, least_change=20.0).batch([2, 2], step=1)
    assert torch.equal(everything.images, seen.images)
    assert everything.masks[:, :, :10].any()
    assert not seen.masks[:, :, :10].any()
    assert torch.equal(everything.masks[:, :, 22:], seen.masks[:, :, 22:])
    assert seen.masks.any()


def test_batches_follow_the_order_of_training_and_continue_after_a_stop(normal_dataset) -> None:
    items = make(normal_dataset())
    whole = list(islice(item_batches(items, 4, seed=3), 5))
    order = list(islice(train_indices(6, 4, seed=3), 5))
    assert [batch.indices.tolist() for batch in whole] == order
    resumed = list(islice(item_batches(items, 4, seed=3, start=3), 2))
    assert all(equal(one, other) for one, other in zip(whole[3:], resumed, strict=True))


def test_loader_processes_give_the_same_batches(normal_dataset) -> None:
    items = make(normal_dataset(), rule=NAMED["otsu-dark"])
    plain = list(islice(item_batches(items, 4, seed=3, start=2, normals=False), 4))
    parallel = list(islice(item_batches(items, 4, seed=3, start=2, normals=False, workers=2), 4))
    assert all(equal(one, other) for one, other in zip(plain, parallel, strict=True))


def test_processes_that_train_together_share_each_batch(normal_dataset) -> None:
    items = make(normal_dataset())
    order = list(islice(train_indices(6, 4, seed=3), 3))
    shares = [list(islice(item_batches(items, 4, seed=3, rank=rank, world=2), 3)) for rank in (0, 1)]
    joined = [one.indices.tolist() + other.indices.tolist() for one, other in zip(*shares, strict=True)]
    assert joined == order


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_by_loader_processes_too(normal_dataset, workers) -> None:
    dataset = normal_dataset()
    dataset.records[3].image.write_bytes(b"not an image")
    with pytest.raises(UnreadableImage, match=r"^cannot read the image .*normal3\.png"):
        list(islice(item_batches(make(dataset), 6, seed=0, workers=workers), 1))


def test_scales_that_do_not_fit_the_image_size_are_refused_at_once(normal_dataset) -> None:
    with pytest.raises(
        BadValue, match="do not divide images of 32x32 pixels; expected at most --perlin-scale 6"
    ):
        make(normal_dataset(1), scales=PerlinScales(7))
