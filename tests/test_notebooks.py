"""The notebooks run from top to bottom, offline, and say what they are to say."""

import runpy
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SAID = {
    "own_images": "scratch/00",
    "compare": "padim - patchcore:",
    "own_method": "without it 0.5",
}
"""By notebook, a part of what it prints."""


def test_no_notebook_is_forgotten() -> None:
    assert {path.stem for path in NOTEBOOKS.iterdir() if path.suffix == ".py"} == set(SAID)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_a_notebook_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cells = (NOTEBOOKS / f"{name}.py").read_text("utf-8").split("# %%")
    assert cells[1].startswith(" [markdown]\n# # ")
    runpy.run_path(str(NOTEBOOKS / f"{name}.py"), run_name="__main__")
    assert SAID[name] in capsys.readouterr().out
