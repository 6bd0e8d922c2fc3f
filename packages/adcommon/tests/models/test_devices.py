import pytest
import torch

from adcommon.errors import BadValue
from adcommon.models.devices import choose_device


@pytest.mark.parametrize("gpu", ["99", "9" * 30, "1000000000"])
def test_a_gpu_that_is_not_there_is_refused_and_the_way_out_named(gpu: str) -> None:
    with pytest.raises(BadValue, match=r"--gpu is 9|--gpu is 1.*were found.*--gpu cpu"):
        choose_device(gpu=gpu)


def test_the_cpu_can_be_asked_for_in_two_ways_but_not_in_both() -> None:
    assert choose_device(gpu="cpu") == choose_device(device="cpu") == torch.device("cpu")
    with pytest.raises(BadValue, match="use one of them"):
        choose_device(gpu="cpu", device="cpu")


@pytest.mark.parametrize("device", ["cuda:99", "cuda:256", "cuda:1000", "cpu:3", "tpu", "cuda:x", "", "meta"])
def test_a_device_asked_for_by_name_must_exist(device: str) -> None:
    with pytest.raises(BadValue, match="--device is"):
        choose_device(device=device)


@pytest.mark.parametrize("gpu", ["first", "-1", "", "1.0", "\N{SUPERSCRIPT TWO}", "cuda:0"])
def test_a_gpu_number_must_be_a_number(gpu: str) -> None:
    with pytest.raises(BadValue, match="expected a number"):
        choose_device(gpu=gpu)
