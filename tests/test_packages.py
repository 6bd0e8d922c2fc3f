"""What is published of each package, and that it works where nothing of this repository lies beside it."""

import email
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
EXAMPLE = """
import sys
import numpy as np
import adcommon as ad
from adcommon.metrics import auroc
assert auroc(np.array([0.1, 0.2, 0.9]), np.array([0, 0, 1])) == 1.0 and "torch" not in sys.modules
model = ad.load("runs/padim/photos/model")
assert "site-packages" in ad.__file__
assert model.predict("photos/bad/000.png").score > model.predict("photos/good/000.png").score
"""
pytestmark = pytest.mark.slow


def uv(*words: str | Path) -> str:
    done = subprocess.run(["uv", *map(str, words)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each made of the package's source distribution, not of its folder."""
    folder = tmp_path_factory.mktemp("wheels")
    uv("build", "--all-packages", "--out-dir", folder)
    return folder


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_wheel_holds_the_package_and_nothing_else(wheels: Path, package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    (path,) = wheels.glob(f"{package.name}-*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        (about,) = (name for name in names if name.endswith("/METADATA"))
        (licence,) = (name for name in names if name.endswith("/licenses/LICENSE"))
        metadata = email.message_from_string(wheel.read(about).decode())
        assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    files = [file for file in (package / "src").rglob("*") if file.is_file() and file.suffix != ".pyc"]
    sources = {file.relative_to(package / "src").as_posix() for file in files}
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Summary"] == project["description"]
    assert metadata.get_all("Classifier") == project["classifiers"]
    urls = [f"{name}, {url}" for name, url in project.get("urls", {}).items()]
    assert metadata.get_all("Project-URL", []) == urls
    assert metadata.get_payload() == (package / "README.md").read_text("utf-8")


@pytest.mark.timeout(1200)
def test_the_wheels_train_and_predict_in_an_environment_of_their_own(wheels: Path, tmp_path: Path) -> None:
    from adcommon.testing.trees import make_folder

    known, place = tmp_path / "known.txt", tmp_path / "venv"
    uv("export", "--frozen", "--no-emit-workspace", "--no-hashes", "--no-dev", "--output-file", known)
    uv("venv", "--python", sys.executable, place)
    uv("pip", "install", "--python", place, "--constraints", known, *wheels.glob("*.whl"))
    make_folder(tmp_path / "photos", good=12, defects=("bad",))
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    for words in (
        ("ad", "--version"),
        ("recontrast-train", "--help"),
        ("padim-train", "--data", "photos", "--recipe", "small", "--out", "runs/padim", "--device", "cpu"),
        ("python", "-c", EXAMPLE),
    ):
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(scripts / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(place)  # five gigabytes, where uv's cache is on another disk
