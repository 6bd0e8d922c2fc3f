"""The faster runtime is taken only if it computes the same."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from adcommon.deploy import fastest
from adcommon.deploy.contract import Session, Tensor
from adcommon.deploy.fastest import faster, smooth_pixels
from adcommon.errors import WrongCheckpoint

PIXELS = smooth_pixels(2, 8)


class Fake:
    """Takes its time, and gives the brightest value and a map."""

    def __init__(self, seconds: float, error: float = 0.0) -> None:
        self.seconds, self.error, self.calls = seconds, error, 0

    def get_inputs(self) -> list[Tensor]:
        return []

    get_outputs = get_inputs

    def run(self, names: Sequence[str], feeds: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        self.calls += 1
        time.sleep(self.seconds)
        pixels = feeds["pixels"].astype(np.float32)
        return [pixels.max(axis=(1, 2, 3)), pixels.mean(axis=-1) + self.error * pixels.mean(axis=-1).max()]


def chosen(judge: Session, other: Session, key: str) -> Session | None:
    return faster(judge, lambda: other, ["score", "map"], PIXELS, "a.onnx", key)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "SECONDS", 0.02)
    monkeypatch.setattr(fastest, "_chosen", {})


def test_the_faster_one_is_taken_and_measured_once(caplog: pytest.LogCaptureFixture) -> None:
    slow, fast = Fake(0.004), Fake(0.0)
    caplog.set_level("INFO")
    assert chosen(slow, fast, "a") is fast
    assert "a.onnx: OpenVINO is taken; onnxruntime " in caplog.text
    calls = slow.calls
    assert chosen(slow, fast, "a") is fast
    assert chosen(fast, slow, "b") is None
    assert slow.calls > calls  # of b
    calls = slow.calls
    assert chosen(fast, slow, "b") is None
    assert slow.calls == calls


@pytest.mark.parametrize("error", [2e-3, np.nan])
def test_one_that_computes_something_else_is_never_taken(
    caplog: pytest.LogCaptureFixture, error: float
) -> None:
    assert chosen(Fake(0.004), Fake(0.0, 5e-4), "a") is not None
    assert chosen(Fake(0.004), Fake(0.0, error), "b") is None
    assert "onnxruntime is taken, for OpenVINO's outputs differ by" in caplog.text


def test_one_that_cannot_compute_the_graph_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> Session:
        raise WrongCheckpoint("a.onnx holds a branch")

    assert faster(Fake(0.0), refused, ["score", "map"], PIXELS, "a.onnx", "a") is None
    assert "onnxruntime is taken; a.onnx holds a branch" in caplog.text
