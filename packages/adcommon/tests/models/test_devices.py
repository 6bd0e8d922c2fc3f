import logging

import pytest
import torch

from adcommon.errors import BadValue
from adcommon.models.devices import choose_device


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
