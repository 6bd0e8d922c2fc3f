import itertools
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adcommon.data import content, loading
from adcommon.data.loading import AnomalyDataset, train_batches
from adcommon.data.normalise import normalise
from adcommon.data.order import batches_per_epoch, epoch_order
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, EmptySplit, UnreadableImage
from adcommon.io.cache import DiskCache
from adcommon.types.records import Record

COUNT = 13
SMALL = Preprocess(image_size=8)


def draw(folder, count=COUNT, side=12):
    """Images of noise; every third is anomalous and has a mask."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        image = folder / f"{number:03}.bmp"
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(image)
        mask = None
        if number % 3 == 2:
            mask = folder / f"{number:03}_mask.png"
            Image.fromarray(np.eye(side, dtype=np.uint8) * 255).save(mask)
        records.append(Record(image, "alpha", label=int(mask is not None), mask=mask))
    return records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def dataset(records):
    return AnomalyDataset(records, SMALL)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the images that were decoded."""
    names = []
    pixels = Preprocess.pixels

    def counting(self, image):
        names.append(image.name)
        return pixels(self, image)

    monkeypatch.setattr(Preprocess, "pixels", counting)
    return names


def positions(batches):
    return [batch.indices.tolist() for batch in batches]


def equal(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("images", "masks", "labels", "indices")
    )


def test_a_batch_holds_each_records_own_image_mask_and_label(dataset, records):
    batch = dataset.batch([5, 0, 5])
    assert batch.indices.tolist() == [5, 0, 5]
    assert batch.labels.tolist() == [1, 0, 1]
    for row, index in enumerate([5, 0, 5]):
        pixels = SMALL.pixels(records[index].image)
        torch.testing.assert_close(batch.images[row], normalise(pixels[None], SMALL)[0], rtol=0, atol=0)
        np.testing.assert_array_equal(batch.masks[row], SMALL.mask(records[index]))


def test_cached_batches_equal_uncached_ones_and_decode_nothing(tmp_path, records, decoded):
    cache = DiskCache(tmp_path)
    direct = AnomalyDataset(records, SMALL).batch(range(COUNT))
    first = AnomalyDataset(records, SMALL, cache).batch(range(COUNT))
    decoded.clear()
    second = AnomalyDataset(records, SMALL, cache).batch(range(COUNT))
    assert decoded == []
    assert equal(direct, first)
    assert equal(direct, second)


def test_a_second_access_touches_no_file(tmp_path):
    records = draw(tmp_path)
    dataset = AnomalyDataset(records, SMALL, DiskCache(tmp_path / "cache"))
    before = dataset.batch(range(COUNT))
    for record in records:
        record.image.unlink()
    (tmp_path / "cache").rename(tmp_path / "gone")
    assert equal(before, dataset.batch(range(COUNT)))


@pytest.mark.parametrize("changed", ["image", "mask"])
def test_a_file_changed_under_equal_size_and_date_is_not_served_from_the_cache(
    tmp_path, monkeypatch, changed
):
    image, mask = tmp_path / "a.bmp", tmp_path / "m.bmp"
    record = Record(image, "alpha", label=1, mask=mask)
    cache = DiskCache(tmp_path / "cache")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(mask)
    dark = AnomalyDataset([record], SMALL, cache).batch([0])

    path = getattr(record, changed)
    status = path.stat()
    Image.fromarray(np.full((8, 8, 3) if changed == "image" else (8, 8), 255, np.uint8)).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)

    monkeypatch.setattr(content, "_digests", {})  # as in a new process
    light = AnomalyDataset([record], SMALL, cache).batch([0])
    assert light.masks.all().item() == (changed == "mask")
    assert (light.images > dark.images).all().item() == (changed == "image")


def test_a_file_is_hashed_once_per_process(tmp_path, records, monkeypatch):
    AnomalyDataset(records, SMALL, DiskCache(tmp_path)).batch(range(COUNT))
    monkeypatch.setattr("pathlib.Path.read_bytes", None)
    keys = {AnomalyDataset(records, SMALL).content_key(index) for index in range(COUNT)}
    assert len(keys) == COUNT


@pytest.mark.parametrize(
    "other",
    [
        replace(SMALL, image_size=9),
        replace(SMALL, interpolation="nearest"),
        replace(SMALL, mask_rule="any"),
        replace(SMALL, mean=(0.5, 0.5, 0.5)),
    ],
    ids=["size", "filter", "mask rule", "mean"],
)
def test_another_preprocess_gets_its_own_pixels_from_the_same_cache(tmp_path, records, other):
    cache = DiskCache(tmp_path)
    AnomalyDataset(records, SMALL, cache).batch([2])
    cached = AnomalyDataset(records, other, cache).batch([2])
    assert equal(cached, AnomalyDataset(records, other).batch([2]))


def test_changed_code_or_library_makes_another_key(records, monkeypatch):
    dataset = AnomalyDataset(records, SMALL)
    before = dataset.content_key(0)
    monkeypatch.setattr("PIL.__version__", "0")
    after = dataset.content_key(0)
    assert before != after


def test_memory_is_filled_up_to_its_limit(records, decoded):
    two_images = 2 * 8 * 8 * 3
    dataset = AnomalyDataset([records[index] for index in (0, 1, 3, 4)], SMALL, memory_bytes=two_images)
    for _ in range(3):
        dataset.batch(range(4))
    assert len(decoded) == 2 + 3 * 2


def test_a_loader_process_is_not_sent_the_decoded_images(records):
    dataset = AnomalyDataset(records, Preprocess(image_size=64))
    dataset.batch(range(COUNT))
    sent = pickle.dumps(dataset.batch)
    assert len(sent) < 64 * 64 * 3
    assert equal(pickle.loads(sent)([1, 2]), dataset.batch([1, 2]))


@pytest.mark.parametrize("cached", [True, False])
def test_a_missing_image_is_named(tmp_path, cached):
    record = Record(tmp_path / "gone.png", "alpha", label=0)
    dataset = AnomalyDataset([record], SMALL, DiskCache(tmp_path / "cache") if cached else None)
    with pytest.raises(UnreadableImage, match=r"gone\.png"):
        dataset.batch([0])


@pytest.mark.parametrize("workers", [0, 1])
def test_test_batches_come_in_order_and_again(dataset, workers):
    batches = loading.test_batches(dataset, 5, workers)
    assert len(batches) == 3
    for _ in range(2):
        assert positions(batches) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]
    assert equal(next(iter(batches)), dataset.batch(range(5)))


def test_loader_processes_give_the_same_training_batches_and_leave_global_randomness_alone(dataset):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    plain = train_batches(dataset, 4, seed=3)
    parallel = train_batches(dataset, 4, seed=3, workers=2)
    assert all(equal(next(plain), next(parallel)) for _ in range(6))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


def test_a_users_mistake_found_by_a_loader_process_keeps_its_message(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    dataset = AnomalyDataset([Record(tmp_path / "broken.png", "alpha", label=0)], SMALL)
    messages = []
    for workers in (0, 1):
        with pytest.raises(UnreadableImage) as caught:
            list(loading.test_batches(dataset, 1, workers))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "broken.png" in messages[0]


sizes = st.integers(1, 16)


@settings(max_examples=30)
@given(batch_size=sizes, seed=st.integers(0, 2**63), epochs=st.integers(1, 3))
def test_every_epoch_sees_every_image_once_in_an_order_of_seed_and_epoch_alone(
    dataset, batch_size, seed, epochs
):
    count = epochs * batches_per_epoch(COUNT, batch_size)
    seen = positions(itertools.islice(train_batches(dataset, batch_size, seed=seed), count))
    flat = np.concatenate(seen).reshape(epochs, COUNT)
    for epoch in range(epochs):
        assert sorted(flat[epoch]) == list(range(COUNT))
        assert flat[epoch].tolist() == epoch_order(COUNT, seed, epoch).tolist()


def test_orders_differ_between_epochs_and_between_seeds():
    orders = {tuple(epoch_order(COUNT, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


@settings(max_examples=30)
@given(
    share=st.integers(1, 5),
    world=st.integers(1, 3),
    start=st.integers(0, 40),
    drop_last=st.booleans(),
    data=st.data(),
)
def test_a_resumed_run_continues_with_the_batches_an_unbroken_one_would_see(
    dataset, share, world, start, drop_last, data
):
    batch_size = share * world
    if drop_last and batch_size > COUNT:
        return
    options = {
        "seed": 1,
        "drop_last": drop_last,
        "world": world,
        "rank": data.draw(st.integers(0, world - 1)),
    }
    unbroken = itertools.islice(train_batches(dataset, batch_size, **options), start, start + 5)
    resumed = itertools.islice(train_batches(dataset, batch_size, start=start, **options), 5)
    assert positions(resumed) == positions(unbroken)


@settings(max_examples=30)
@given(share=st.integers(1, 5), world=st.integers(1, 4))
def test_the_shares_of_all_processes_in_order_are_the_global_batch(dataset, share, world):
    batch_size = share * world
    count = 2 * batches_per_epoch(COUNT, batch_size, world=world)
    shares = [
        positions(itertools.islice(train_batches(dataset, batch_size, seed=0, rank=rank, world=world), count))
        for rank in range(world)
    ]
    joined = [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)]
    expected = []
    for epoch in range(2):
        order = epoch_order(COUNT, 0, epoch).tolist()
        batches = [order[first : first + batch_size] for first in range(0, COUNT, batch_size)]
        trimmed = [batch[: len(batch) // world * world] for batch in batches]
        expected += [batch for batch in trimmed if batch]
    assert joined == expected
    assert {len(part) * world for parts in shares for part in parts} <= {len(batch) for batch in expected}


def test_drop_last_leaves_out_the_smaller_batch(dataset):
    seen = positions(itertools.islice(train_batches(dataset, 5, seed=0, drop_last=True), 4))
    assert [len(batch) for batch in seen] == [5, 5, 5, 5]
    assert [*seen[2], *seen[3]] == epoch_order(COUNT, 0, 1)[:10].tolist()


def test_skipped_batches_are_not_read(records, decoded):
    dataset = AnomalyDataset(records, SMALL)
    batch = next(train_batches(dataset, 4, seed=0, start=1001))
    assert sorted(decoded) == sorted(records[index].image.name for index in batch.indices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5, "world": 2}, "batch size 5 cannot be shared equally by 2 processes"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"batch_size": 14, "drop_last": True}, "13 training images make no batch of 14"),
        ({"batch_size": 14, "world": 14}, "13 training images make no batch of 14 images for 14 processes"),
        ({"batch_size": 2, "world": 2, "rank": 2}, "rank is 2; expected less than world = 2"),
        ({"batch_size": 2, "start": -1}, "start is -1; expected at least 0"),
        ({"batch_size": 2, "seed": -1}, "seed is -1; expected at least 0"),
        ({"batch_size": 2, "workers": -1}, "workers is -1; expected at least 0"),
    ],
)
def test_impossible_values_are_refused_at_once(dataset, options, message):
    with pytest.raises(BadValue, match=message):
        train_batches(dataset, **({"seed": 0} | options))


def test_training_on_nothing_is_refused():
    with pytest.raises(EmptySplit, match="no images to train on"):
        train_batches(AnomalyDataset([], SMALL), 2, seed=0)


def test_equal_data_has_one_digest_wherever_it_lies(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    records, moved = draw(here), draw(there)
    digest = content.data_digest(records)
    assert content.data_digest(moved[::-1]) == digest
    others = [
        moved[:-1],
        [replace(moved[0], label=1), *moved[1:]],
        [replace(moved[2], mask=None), *moved[:2]],
    ]
    assert digest not in map(content.data_digest, others)
