import logging
import random

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from adcommon.errors import BadValue
from adcommon.training.devices import any_process, choose_device, distribute, set_seed, start


def test_a_gpu_that_is_not_there_means_the_cpu_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_device(gpu="99") == torch.device("cpu")
    assert "GPU 99 is not available" in caplog.text
    assert choose_device(gpu="cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cuda:x"])
def test_a_device_asked_for_by_name_must_exist(device: str) -> None:
    with pytest.raises(BadValue, match="--device is"):
        choose_device(device=device)


def test_a_gpu_number_must_be_a_number() -> None:
    with pytest.raises(BadValue, match="expected a number"):
        choose_device(gpu="first")


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(BadValue, match="fp16 needs a CUDA GPU"):
        start(torch.device("cpu"), "fp16")


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
