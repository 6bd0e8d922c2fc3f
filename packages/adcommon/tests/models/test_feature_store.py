import multiprocessing
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from adcommon.data import content
from adcommon.data.loading import AnomalyDataset
from adcommon.data.preprocess import Preprocess
from adcommon.io.cache import DiskCache
from adcommon.models import feature_store
from adcommon.models.backbones import FeaturePyramid
from adcommon.models.feature_store import cached_features
from adcommon.types.records import Record

LITE0 = "tf_efficientnet_lite0.in1k"
SMALL = Preprocess(image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
COUNT = 5


def draw(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def records(tmp_path):
    for number in range(COUNT):
        draw(tmp_path / f"{number}.bmp", number)
    return [Record(tmp_path / f"{number}.bmp", "alpha", label=0) for number in range(COUNT)]


@pytest.fixture
def dataset(records):
    return AnomalyDataset(records, SMALL)


@pytest.fixture
def pyramid():
    return FeaturePyramid(LITE0)


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "features")


@pytest.fixture
def passed(monkeypatch):
    """Number of images that went through a backbone, one entry per pass."""
    counts = []
    forward = FeaturePyramid.forward

    def counting(self, images):
        counts.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(FeaturePyramid, "forward", counting)
    return counts


def all_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_cached_features_are_the_directly_computed_ones(pyramid, dataset, cache, passed):
    direct = pyramid(dataset.batch(range(COUNT)).images)
    passed.clear()
    first = cached_features(pyramid, dataset, COUNT, cache)
    assert passed == [COUNT]
    assert all_equal(first.batch(range(COUNT)), direct)
    second = cached_features(pyramid, dataset, COUNT, cache)
    assert all_equal(second.batch(range(COUNT)), direct)
    assert passed == [COUNT]


def test_features_come_in_the_order_asked_for(pyramid, dataset):
    store = cached_features(pyramid, dataset, 2)
    every = store.batch(range(COUNT))
    assert len(store) == COUNT
    for asked in ([3, 0, 3], torch.tensor([3, 0, 3])):
        assert all_equal(store.batch(asked), [level[[3, 0, 3]] for level in every])


def test_a_head_can_learn_from_cached_features(pyramid, dataset):
    maps = cached_features(pyramid, dataset, 2).batch([0, 1])
    head = nn.Conv2d(pyramid.channels[0], 1, 1)
    head(maps[0]).mean().backward()
    assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda pyramid, dataset: pyramid.trunk.blocks[3][1].conv_pw.weight.data.mul_(1.01),
        lambda pyramid, dataset: pyramid.trunk.bn1.running_var.mul_(1.01),
        lambda pyramid, dataset: pyramid.trunk.blocks[1][1].__setattr__("conv_dw", nn.Identity()),
        lambda pyramid, dataset: setattr(dataset, "preprocess", replace(SMALL, std=(0.4, 0.5, 0.5))),
        lambda pyramid, dataset: setattr(dataset, "preprocess", replace(SMALL, interpolation="nearest")),
    ],
    ids=["weight", "statistics", "structure", "normalisation", "filter"],
)
def test_another_backbone_or_preprocess_is_computed_again(pyramid, dataset, cache, passed, change):
    cached_features(pyramid, dataset, COUNT, cache)
    change(pyramid, dataset)
    store = cached_features(pyramid, dataset, COUNT, cache)
    assert passed == [COUNT, COUNT]
    assert all_equal(store.batch(range(COUNT)), pyramid(dataset.batch(range(COUNT)).images))


def test_only_the_batch_of_a_changed_image_is_computed_again(pyramid, records, cache, passed, monkeypatch):
    before = cached_features(pyramid, AnomalyDataset(records, SMALL), 2, cache).batch(range(COUNT))
    status = records[2].image.stat()
    draw(records[2].image, 99)
    os.utime(records[2].image, ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(content, "_digests", {})  # as in a new process
    after = cached_features(pyramid, AnomalyDataset(records, SMALL), 2, cache).batch(range(COUNT))
    assert passed == [2, 2, 1, 2]
    for a, b in zip(before, after, strict=True):
        assert [torch.equal(a[row], b[row]) for row in range(COUNT)] == [True, True, False, True, True]


def test_features_in_tf32_are_kept_apart(monkeypatch):
    cases = ((True, "cuda", "tf32"), (False, "cuda", "float32"), (True, "cpu", "float32"))
    for allowed, device, expected in cases:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        assert feature_store._arithmetic(torch.device(device)) == expected


def test_a_broken_off_fill_goes_on_with_whole_batches(pyramid, dataset, cache, passed):
    cached_features(pyramid, dataset, 2, cache)
    lost = cached_features(pyramid, dataset, 2, cache)._keys(3)[0]
    cache._path(lost).unlink()
    passed.clear()
    cached_features(pyramid, dataset, 2, cache)
    assert passed == [2]


def test_what_fits_nowhere_is_computed_again_when_asked_for(pyramid, dataset, passed):
    one_image = sum(c * (32 // s) ** 2 * 4 for c, s in zip(pyramid.channels, pyramid.strides, strict=True))
    expected = cached_features(pyramid, dataset, 2).batch(range(COUNT))
    passed.clear()
    store = cached_features(pyramid, dataset, 2, memory_bytes=3 * one_image)
    assert passed == [2, 2, 1]
    maps = store.batch(range(COUNT))
    assert passed == [2, 2, 1, 2]
    for a, b in zip(maps, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # other batches, other order of sums


def test_a_lost_entry_is_computed_again(pyramid, dataset, cache, passed):
    store = cached_features(pyramid, dataset, COUNT, cache, memory_bytes=0)
    before = store.batch(range(COUNT))
    next(path for path in cache.folder.rglob("*.bin")).write_bytes(b"damaged")
    after = store.batch(range(COUNT))
    assert passed == [COUNT, 1]
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # another batch, another order of sums


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork to be quick")
def test_parallel_processes_share_one_cache(pyramid, dataset, cache, tmp_path, passed):
    context = multiprocessing.get_context("fork")
    together = context.Barrier(2)

    def run(number):
        together.wait(timeout=60)
        torch.save(cached_features(pyramid, dataset, 1, cache).batch(range(COUNT)), tmp_path / f"{number}.pt")

    processes = [context.Process(target=run, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0
    mine = cached_features(pyramid, dataset, COUNT, cache).batch(range(COUNT))
    assert passed == []
    for number in range(2):
        assert all_equal(torch.load(tmp_path / f"{number}.pt", weights_only=True), mine)
