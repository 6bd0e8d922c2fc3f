"""docs/new-method.md is followed to the letter: its files make a method that trains and predicts."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adcommon.testing.trees import make_folder

DOC = Path(__file__).parent.parent / "docs" / "new-method.md"
Shell = Callable[[str], str]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs a command in a workspace where the page's package is installed; its output."""
    workspace = tmp_path_factory.mktemp("workspace")
    for path, content in re.findall(r"^`(packages/\S+)`\n\n```\w+\n(.*?)^```", DOC.read_text(), re.M | re.S):
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(content)
    site = workspace / "site"
    subprocess.run(
        [
            "uv",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            site,
            workspace / "packages" / "meanmap",
        ],
        check=True,
    )
    make_folder(workspace / "parts", good=24, defects=("scratch",), masks=True)
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "PATH": os.pathsep.join([str(site / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "AD_CACHE": str(workspace / "cache"),
    }

    def run(command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=workspace, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def test_the_pages_method_trains_predicts_and_is_exported(shell: Shell) -> None:
    (commands,) = re.findall(r"^```sh\n(.*?)^```", DOC.read_text(), re.M | re.S)
    outputs = {command: shell(command) for command in commands.splitlines()}
    assert "meanmap" in outputs["ad methods"]
    scores = shell("cut -d, -f2,6 runs/scored/predictions.csv").splitlines()
    assert scores[0] == "score,decision"
    assert len(scores) > 1
    exported = shell("cut -d, -f6 runs/scored-onnx/predictions.csv").splitlines()
    assert exported == [line.split(",")[1] for line in scores]


def test_the_page_names_every_file_that_every_method_has(shell: Shell) -> None:
    shell("python -m compileall -q packages")
    for name in ("recipes", "published", "model", "losses", "optimiser", "detector", "evaluate", "train"):
        assert f"src/meanmap/{name}.py" in DOC.read_text()
