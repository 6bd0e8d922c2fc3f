import csv
import json

import pytest
import torch

from inctrl import tools_cli


def call(monkeypatch, capsys, command: str, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", [command, *map(str, arguments)])
    code = 0
    try:
        getattr(tools_cli, command)()
    except SystemExit as exit:
        code = int(exit.code or 0)
    done = capsys.readouterr()
    return code, done.out, done.err


def test_lists_of_all_categories_of_a_folder_or_dataset(data_root, tmp_path, monkeypatch, capsys) -> None:
    folder = data_root / "mvtec_anomaly_detection"
    code, out, err = call(
        monkeypatch, capsys, "json", "train", "--dataset_dir", folder, "--output_dir", tmp_path / "a"
    )
    assert code == 0, err
    assert "4 lists" in out
    assert len(json.loads((tmp_path / "a" / "cable_normal.json").read_text())) == 7
    words = (
        "val",
        "--dataset",
        "visa",
        "--category",
        "candle",
        "--data-root",
        data_root,
        "--out",
        tmp_path / "b",
    )
    assert call(monkeypatch, capsys, "json", *words)[0] == 0
    assert len(json.loads((tmp_path / "b" / "candle_val_outlier.json").read_text())) == 3


def test_a_few_shot_file_from_a_folder(data_root, tmp_path, monkeypatch, capsys) -> None:
    good = data_root / "VisA_pytorch" / "1cls" / "candle" / "train" / "good"
    words = (good, "--category", "candle", "--count", "3", "--out", tmp_path, "--image-size", "32")
    code, out, err = call(monkeypatch, capsys, "few_shot", *words)
    assert code == 0, err
    assert "3 references" in out
    images = torch.load(tmp_path / "candle.pt", weights_only=True)
    assert [tuple(image.shape) for image in images] == [(3, 32, 32)] * 3


def test_winclip_finds_the_dataset_of_a_category(data_root, tiny_clip, tmp_path, monkeypatch, capsys) -> None:
    code, out, err = call(
        monkeypatch, capsys, "winclip_test",
        *("--category", "candle", "--data-root", data_root, "--backbone", tiny_clip, "--weights", "random"),
        *("--shot", "2", "--out", tmp_path / "out", "--output", tmp_path / "scores.csv", "--device", "cpu"),
    )  # fmt: skip
    assert code == 0, err
    assert "RANDOM" in out
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["dataset"], row["reference_draw"]) for row in rows] == [("visa", "reference")] * 2
    with (tmp_path / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("json", ("val", "--dataset-dir", "nowhere"), "no folders with test in nowhere"),
        ("few_shot", ("nowhere",), "no normal images in nowhere"),
        ("winclip_test", (), "what is to be tested"),
        ("winclip_test", ("--category", "candel"), "did you mean 'candle'"),
    ],
)
def test_mistakes_end_with_a_message_and_exit_code_2(
    monkeypatch, capsys, command, words, message: str
) -> None:
    code, _, err = call(monkeypatch, capsys, command, *words)
    assert code == 2
    assert message in err
