"""docs/new-method.md is followed to the letter: its files make a method that trains and predicts."""

import compileall
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adcommon.testing.commands import read_table, succeed
from adcommon.testing.trees import make_folder

DOC = Path(__file__).parent.parent / "docs" / "new-method.md"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's package, which is installed, and images."""
    for path, content in re.findall(r"^`(packages/\S+)`\n\n```\w+\n(.*?)^```", DOC.read_text(), re.M | re.S):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    site, package = tmp_path / "site", tmp_path / "packages" / "meanmap"
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", site, package]
    subprocess.run(install, check=True)
    make_folder(tmp_path / "parts", good=24, defects=("scratch",), masks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AD_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(site)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "meanmap"]:
        del sys.modules[name]


@pytest.mark.usefixtures("workspace")
def test_the_pages_method_trains_predicts_and_is_exported() -> None:
    (commands,) = re.findall(r"^```sh\n(.*?)^```", DOC.read_text(), re.M | re.S)
    outputs = {command: succeed(*shlex.split(command)).stdout for command in commands.splitlines()}
    assert "meanmap" in outputs["ad methods"]
    scored, exported = (
        read_table(Path(f"runs/{name}/predictions.csv")) for name in ("scored", "scored-onnx")
    )
    assert scored
    assert [row["decision"] for row in exported] == [row["decision"] for row in scored]


def test_the_page_names_every_file_that_every_method_has(workspace: Path) -> None:
    assert compileall.compile_dir(workspace / "packages", quiet=1)
    for name in ("recipes", "published", "model", "losses", "optimiser", "detector", "evaluate", "train"):
        assert f"src/meanmap/{name}.py" in DOC.read_text()
