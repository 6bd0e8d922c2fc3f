import pytest

from adcommon.testing.commands import read_rows, read_table, refused, succeed


def test_winclip_finds_the_dataset_of_a_category(data_root, tiny_clip, tmp_path) -> None:
    done = succeed(
        "winclip-test",
        *("--category", "candle", "--data-root", data_root, "--backbone", tiny_clip, "--weights", "random"),
        *("--shot", "2", "--out", tmp_path / "out", "--output", tmp_path / "scores.csv", "--device", "cpu"),
    )  # fmt: skip
    assert "RANDOM" in done.stdout
    rows = read_rows(tmp_path / "out")
    assert [(row["dataset"], row["reference_draw"]) for row in rows] == [("visa", "reference")] * 2
    assert len(read_table(tmp_path / "scores.csv")) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "what is to be tested"), (("--category", "candel"), "did you mean 'candle'")],
)
def test_mistakes_end_with_a_message_and_exit_code_2(words, message: str) -> None:
    said = refused("winclip-test", *words)
    assert message in said
