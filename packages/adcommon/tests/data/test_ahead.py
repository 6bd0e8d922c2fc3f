from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from adcommon.data.ahead import ahead, placed
from adcommon.data.loading import AnomalyDataset, train_batches
from adcommon.data.preprocess import Preprocess
from adcommon.data.processes import suited
from adcommon.types.prediction import PixelBatch
from adcommon.types.records import Record


def said(log: list[str], kind: str):
    def note(number: int) -> int:
        log.append(f"{kind} {number}")
        return number

    return note


def used(device: str) -> list[str]:
    """What happens, in order, to three batches that are read, placed and used."""
    log: list[str] = []
    for number in ahead(map(said(log, "read"), range(3)), said(log, "place"), device):
        log.append(f"use {number}")
    return log


def test_on_a_cpu_a_batch_is_made_when_it_is_asked_for() -> None:
    assert used("cpu") == [f"{what} {number}" for number in range(3) for what in ("read", "place", "use")]


def test_beside_a_gpu_the_next_batch_is_on_its_way_before_one_is_used(monkeypatch) -> None:
    waited = []
    stream = SimpleNamespace(device="cuda:0")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda device: SimpleNamespace(wait_stream=waited.append)
    )
    assert used("cuda:0") == (
        ["read 0", "place 0", "read 1", "place 1", "use 0", "read 2", "place 2", "use 1", "use 2"]
    )
    assert waited == [stream] * 3


@pytest.fixture
def dataset(tmp_path) -> AnomalyDataset:
    records = []
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        records.append(Record(tmp_path / f"{number}.png", "bolt", 0))
    return AnomalyDataset(records, Preprocess(image_size=8))


def test_what_travels_is_a_quarter_of_what_is_used(dataset) -> None:
    read = dataset.pixel_batch([2, 0])
    assert isinstance(read, PixelBatch)
    assert read.pixels.dtype == torch.uint8
    used = placed(read, dataset.preprocess, "cpu")
    assert used.images.nbytes == 4 * read.pixels.nbytes
    assert torch.equal(used.images, dataset.batch([2, 0]).images)


@pytest.mark.parametrize(
    ("gpu", "cores", "processes", "expected"),
    [(False, 16, 1, 0), (True, 16, 1, 8), (True, 16, 4, 3), (True, 1, 1, 0)],
)
def test_loader_processes_suit_the_machine(monkeypatch, gpu, cores, processes, expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert suited(None) == expected
    assert suited(3) == 3


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_of_the_cpu(dataset) -> None:
    there, here = (train_batches(dataset, 2, seed=0, device=device) for device in ("cuda", "cpu"))
    for _ in range(5):
        on_gpu, on_cpu = next(there), next(here)
        assert on_gpu.images.is_cuda
        torch.testing.assert_close(on_gpu.images.cpu(), on_cpu.images)
