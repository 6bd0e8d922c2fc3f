import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from adcommon.errors import BadValue
from adcommon.training.devices import any_process, distribute, set_seed, start
from adcommon.types.arithmetic import Arithmetic


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(BadValue, match="fp16 needs a CUDA GPU"):
        start(torch.device("cpu"), Arithmetic(precision="fp16"))


def test_one_seed_gives_one_stream_in_python_numpy_and_torch() -> None:
    def draw() -> tuple[float, float, float]:
        set_seed(3)
        return random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002

    assert draw() == draw()


def test_one_process_needs_no_wrapper_and_answers_for_itself() -> None:
    accelerator, model = Accelerator(cpu=True), torch.nn.Linear(2, 2)
    assert distribute(model, accelerator) is model
    assert any_process(True, accelerator, when=False)
    assert not any_process(False, accelerator)


def test_synchronised_batch_norm_needs_several_gpus() -> None:
    with pytest.raises(BadValue, match="several GPUs"):
        distribute(torch.nn.BatchNorm2d(2), Accelerator(cpu=True), sync_batch_norm=True)


def test_one_process_may_train_in_another_precision_afterwards() -> None:
    device = torch.device("cpu")
    assert start(device, Arithmetic(precision="bf16")).mixed_precision == "bf16"
    assert start(device, Arithmetic(precision="auto")).mixed_precision == "no"


def test_what_was_asked_for_and_what_that_is_here_is_said_and_set(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        start(torch.device("cpu"), Arithmetic(precision="auto", deterministic=False))
        flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        start(torch.device("cpu"))
    said = "precision fp32 (asked: auto) compile False channels_last False deterministic True"
    assert caplog.messages[0] == f"device cpu processes 1 {said}"
    assert flags == (False, True)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
    assert not torch.backends.cudnn.allow_tf32


def test_a_compiled_model_shares_its_weights() -> None:
    model = torch.nn.Linear(2, 2)
    compiled = distribute(model, Accelerator(cpu=True), compiles=True)
    assert compiled is not model
    assert compiled.weight is model.weight
