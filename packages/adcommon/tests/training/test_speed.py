import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from adcommon.training import speed
from adcommon.training.steps import Readings, steps
from adcommon.training.stop import StopSignal


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_figures_are_of_the_steps_since_the_last_readings_alone(accelerator, monkeypatch) -> None:
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def load(images: int, *, seconds: float) -> list[int]:
        clock.now += seconds
        return [0] * images

    readings, found = Readings(accelerator, nn.Linear(1, 1)), []
    for step, images in zip(
        steps(0, 5, StopSignal(), accelerator, what="x", log_every=2), (4, 4, 4, 2, 2), strict=True
    ):
        assert len(step.pace.draw(load, images, seconds=1.0)) == images
        assert step.pace.wait(load, 100, seconds=0.5) == [0] * 100  # its features
        clock.now += 2.5 if step.number < 5 else 0.5
        readings.add(loss=torch.tensor(0.5))
        if step.is_due:
            readings.take(step)
            clock.now += 1000.0  # an evaluation
            found.append({"step": step.number, **step.pace.figures})
    assert [(row["step"], row["images_per_second"], row["step_seconds"]) for row in found] == [
        (2, 1.0, 4.0),
        (4, 0.75, 4.0),
        (5, 1.0, 2.0),
    ]
    assert [row["waiting_share"] for row in found] == [0.375, 0.375, 0.75]


def test_images_of_all_processes_are_counted(monkeypatch) -> None:
    times = iter([0.0, 0.0, 1.0, 2.0])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    pace = speed.Pace(SimpleNamespace(device=torch.device("cpu"), num_processes=3))
    pace.begin()
    pace.draw(list, "ab")
    pace.read()
    assert pace.figures["images_per_second"] == 3.0


def test_peak_memory_is_in_megabytes_of_this_process() -> None:
    peak = speed.peak_memory(torch.device("cpu"))
    now = psutil.Process().memory_info().rss / 1e6
    assert 0.99 * now < peak < 10 * now


@pytest.mark.parametrize(("count", "traced"), [(30, range(6, 26)), (7, range(6, 8))])
def test_a_trace_has_twenty_steps_or_those_that_there_are(
    count: int, traced: range, accelerator, tmp_path: Path, caplog
) -> None:
    file = tmp_path / "x" / "trace.json.gz"
    caplog.set_level("INFO")
    for _ in steps(0, count, StopSignal(), accelerator, what="x", trace=file):
        torch.ones(2).cumsum(0)
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") in ("cpu_op", "user_annotation")]
    assert sorted(name for name in names if "#" in name) == sorted(f"ProfilerStep#{step}" for step in traced)
    assert names.count("aten::cumsum") == len(traced)
    assert f"to {file}" in caplog.text
    assert "perfetto" in caplog.text


def test_a_training_that_is_too_short_for_a_trace_says_so(accelerator, tmp_path: Path, caplog) -> None:
    file = tmp_path / "trace.json.gz"
    file.write_bytes(b"of an earlier training")
    list(steps(0, 5, StopSignal(), accelerator, what="x", trace=file))
    assert not file.exists()
    assert "wrote no trace: it begins after 5 steps" in caplog.text
