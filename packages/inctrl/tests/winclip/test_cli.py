import csv
import json

import pytest

from adcommon.testing.console import call


def test_winclip_finds_the_dataset_of_a_category(data_root, tiny_clip, tmp_path) -> None:
    done = call(
        "winclip-test",
        *("--category", "candle", "--data-root", data_root, "--backbone", tiny_clip, "--weights", "random"),
        *("--shot", "2", "--out", tmp_path / "out", "--output", tmp_path / "scores.csv", "--device", "cpu"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "RANDOM" in done.stdout
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["dataset"], row["reference_draw"]) for row in rows] == [("visa", "reference")] * 2
    with (tmp_path / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "what is to be tested"), (("--category", "candel"), "did you mean 'candle'")],
)
def test_mistakes_end_with_a_message_and_exit_code_2(words, message: str) -> None:
    done = call("winclip-test", *words)
    assert done.returncode == 2
    assert message in done.stderr
