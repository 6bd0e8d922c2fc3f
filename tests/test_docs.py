"""What the pages for practitioners tell people to type works as it is written."""

import re
import shlex
from pathlib import Path

import pytest

from adcommon.testing.commands import succeed
from adcommon.testing.trees import make_folder

DOCS = Path(__file__).parents[1] / "docs"
SHORT = {"--minutes 20": "--minutes 2 --methods padim"}
"""What a test has no time for, and what it does instead."""


def commands(page: str) -> list[str]:
    """The commands in a page's blocks, and those in its running text that can be run by themselves."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"uv run ([^`\n]+)", text)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("page", "left"),
    [
        ("inspect.md", ["predictions/maps/index.html", "runs/compare/index.html", "model.onnx"]),
        ("thresholds.md", ["at-20-percent/predictions.csv"]),
    ],
)
def test_every_command_of_the_page_runs(page: str, left: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", good=36, defects=("Defective",))
    (tmp_path / "photos" / "good").rename(tmp_path / "photos" / "Good Parts")
    found = commands(page)
    assert len(found) >= 2
    for command in sorted(found, key=lambda words: " export " in f" {words} "):
        for long, short in SHORT.items():
            command = command.replace(long, short)
        succeed(*shlex.split(command))
    assert [name for name in left if not (tmp_path / name).exists()] == []
