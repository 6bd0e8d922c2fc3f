import logging
from typing import Any

import pytest
import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.models.compute import (
    Compute,
    ask,
    full_precision,
    in_full,
    resolve,
    say_other_precision,
    set_tf32,
    tf32,
)
from adcommon.models.neighbours import nearest, nearest_distances
from adcommon.types.arithmetic import Arithmetic
from adcommon.types.prediction import Prediction

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


class Detector:
    """Says which arithmetic its network saw."""

    preprocess = Preprocess(image_size=8)

    def __init__(self, compute: Compute) -> None:
        self.compute = compute

    def score(self, images: Any) -> Prediction:
        return Prediction(images[:, 0, 0, 0], None)


class Fixed:
    preprocess = Preprocess(image_size=8)
    score = Detector.score


@pytest.mark.parametrize(
    ("asked", "device", "capability", "halves", "known"),
    [
        ("auto", CPU, None, True, "fp32"),
        ("auto", MPS, None, True, "fp32"),
        ("auto", CUDA, (8, 0), True, "bf16"),
        ("auto", CUDA, (9, 0), False, "tf32"),
        ("auto", CUDA, (7, 5), True, "fp32"),
        ("tf32", CUDA, (8, 6), True, "tf32"),
        ("tf32", CUDA, (7, 0), True, "fp32"),
        ("tf32", CPU, None, True, "fp32"),
        ("fp16", CUDA, (7, 0), True, "fp16"),
        ("bf16", CPU, None, True, "bf16"),
    ],
)
def test_a_precision_means_what_the_device_can(
    monkeypatch: pytest.MonkeyPatch, asked, device, capability, halves, known
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve(asked, device, halves=halves) == known


def test_fp16_of_a_gpu_is_fp32_where_it_is_loaded_on_a_cpu_and_refused_where_it_is_asked_for() -> None:
    trained = Compute.of(Arithmetic(precision="fp16"), CPU)
    assert trained.precision == "fp32"
    with pytest.raises(BadValue, match="--precision fp16 needs a CUDA GPU; on cpu use fp32 or bf16"):
        trained.asked("fp16", compiles=False)


def test_networks_alone_are_in_half_precision_and_what_they_say_is_float32() -> None:
    layer, images = torch.nn.Linear(64, 64), torch.randn(4, 64)
    plain, half = Compute(), Compute(precision="bf16")
    said = half(lambda x: [layer(x), x.argmax()], images)
    assert said[0].dtype == torch.float32
    assert torch.equal(said[0], layer(images).bfloat16().float()) or not torch.equal(said[0], layer(images))
    assert torch.equal(said[0], said[0].bfloat16().float())
    assert torch.equal(plain(layer, images), layer(images))
    assert not torch.is_autocast_enabled("cpu")
    assert half.not_half == plain


def test_distances_stay_in_float32_inside_autocast() -> None:
    rows = torch.nn.functional.normalize(torch.randn(1, 300, 32), dim=-1)
    bank = rows[0].flip(0)
    with torch.autocast("cpu", torch.bfloat16):
        index, cosine = nearest(rows, bank)
        distances, _ = nearest_distances(rows, bank)
        with full_precision(CPU):
            assert (rows @ bank.T).dtype == torch.float32
        assert (rows @ bank.T).dtype == torch.bfloat16
    assert torch.equal(index[0], torch.arange(299, -1, -1))
    assert (cosine - 1).abs().max() < 1e-6
    assert distances.max() < 1e-3


@pytest.mark.parametrize(("device", "inside"), [(CUDA, (True, True)), (CPU, (False, False))])
def test_tf32_is_on_inside_and_as_before_outside(device, inside) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    set_tf32(False)
    with tf32(True, device):
        assert (matmul.allow_tf32, cudnn.allow_tf32) == inside
        with full_precision(CPU), tf32(False, device):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
        assert (matmul.allow_tf32, cudnn.allow_tf32) == inside
    assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)


def test_other_values_than_half_precision_are_left_alone() -> None:
    text, wide = "a", torch.ones(1, dtype=torch.float64)
    kept = in_full([text, wide, (torch.ones(1, dtype=torch.float16),)])
    assert kept[0] is text
    assert kept[1] is wide
    assert kept[2][0].dtype == torch.float32


def test_a_command_may_ask_for_another_precision_where_the_method_has_one() -> None:
    detector = Detector(Compute())
    ask(detector, "bf16", compiles=True)
    assert (detector.compute.precision, detector.compute.compiles) == ("bf16", True)
    ask(detector, None, compiles=False)
    assert (detector.compute.precision, detector.compute.compiles) == ("bf16", False)
    with pytest.raises(BadValue, match="--precision bf16: distances of this method"):
        ask(Detector(Compute(halves=False)), "bf16", compiles=False)
    ask(Fixed(), "fp32", compiles=False)
    for precision, compiles in (("bf16", False), (None, True)):
        with pytest.raises(BadValue, match="computes in fp32 alone; leave out --precision and --compile"):
            ask(Fixed(), precision, compiles=compiles)


@pytest.mark.parametrize(
    ("chosen", "now", "threshold", "said"),
    [
        ("bf16", "fp32", {}, 1),
        (None, "bf16", {}, 1),
        ("bf16", "bf16", {}, 0),
        (None, "fp32", {}, 0),
        ("bf16", "fp32", None, 0),
    ],
)
def test_a_threshold_of_another_precision_is_said(caplog, chosen, now, threshold, said) -> None:
    with caplog.at_level(logging.WARNING):
        config = {"computed_in": chosen, "threshold": threshold}
        say_other_precision(config, Detector(Compute(precision=now)))
    assert len(caplog.messages) == said
    assert all(f"from scores in {chosen or 'fp32'}" in message for message in caplog.messages)


def test_features_of_another_precision_are_kept_apart() -> None:
    from adcommon.models.backbones import FeaturePyramid

    pyramid = FeaturePyramid("resnet18", "random")
    assert Compute().frozen(pyramid) is pyramid
    half = Compute(precision="bf16").frozen(pyramid)
    assert (half.tag, half.strides) == (pyramid.tag, pyramid.strides)
    assert "bf16" in repr(half)
    maps, plain = (network(torch.randn(1, 3, 64, 64)) for network in (half, pyramid))
    assert [level.dtype for level in maps] == [torch.float32] * 3
    assert not torch.equal(maps[0], plain[0])


@pytest.mark.slow
def test_a_compiled_network_computes_the_same() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
    images = torch.randn(2, 3, 8, 8)
    compiled = Compute(compiles=True)
    with torch.inference_mode():
        assert (compiled(network, images) - network(images)).abs().max() < 1e-5
        assert compiled(network, images[:1]).shape == (1, 2, 4, 4)
    assert list(compiled._compiled) == [network]
