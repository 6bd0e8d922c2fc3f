import json

import pytest
import torch

from adcommon.testing.commands import refused, succeed


def test_lists_of_all_categories_of_a_folder_or_dataset(data_root, tmp_path) -> None:
    folder = data_root / "mvtec_anomaly_detection"
    done = succeed("inctrl-json", "train", "--dataset_dir", folder, "--output_dir", tmp_path / "a")
    assert "4 lists" in done.stdout
    assert len(json.loads((tmp_path / "a" / "cable_normal.json").read_text())) == 7
    words = ("--dataset", "visa", "--category", "candle", "--data-root", data_root, "--out", tmp_path / "b")
    succeed("inctrl-json", "val", *words)
    assert len(json.loads((tmp_path / "b" / "candle_val_outlier.json").read_text())) == 3


def test_a_few_shot_file_from_a_folder(data_root, tmp_path) -> None:
    good = data_root / "VisA_pytorch" / "1cls" / "candle" / "train" / "good"
    words = (good, "--category", "candle", "--count", "3", "--out", tmp_path, "--image-size", "32")
    done = succeed("inctrl-few-shot", *words)
    assert "3 references" in done.stdout
    images = torch.load(tmp_path / "candle.pt", weights_only=True)
    assert [tuple(image.shape) for image in images] == [(3, 32, 32)] * 3


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("inctrl-json", ("val", "--dataset-dir", "nowhere"), "no folders with test in nowhere"),
        ("inctrl-few-shot", ("nowhere",), "no normal images in nowhere"),
    ],
)
def test_mistakes_end_with_a_message_and_exit_code_2(command, words, message: str) -> None:
    said = refused(command, *words)
    assert message in said
