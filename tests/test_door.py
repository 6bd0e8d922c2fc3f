"""`import adcommon as ad`: what the README shows, and what is built on it."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adcommon as ad
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.load import from_detector
from adcommon.testing.surroundings import run_with_ray
from adcommon.testing.trees import make_folder
from adcommon.types.prediction import Prediction

ROOT = Path(__file__).parent.parent
THRESHOLD = {"value": 1.0, "false_alarm_rate": 0.05, "images": 19, "supported": True}
CONFIG = {"method": "edges", "category": "parts", "threshold": THRESHOLD}


class Edges:
    """A convolution whose squares are the map, and their largest the score."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.preprocess = Preprocess(image_size=32)
        self.model = nn.Conv2d(3, 4, 3, padding=1).eval()

    @torch.inference_mode()
    def score(self, images: Tensor) -> Prediction:
        maps = self.model(images).square().sum(dim=1)
        return Prediction(maps.flatten(1).amax(dim=1), maps)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images in the current folder."""
    monkeypatch.chdir(tmp_path)
    return make_folder(tmp_path / "parts", good=8, defects=("scratch",), masks=True)


def test_the_examples_of_the_readme_run(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("adcommon.methods.load_folder", lambda *_, **flags: (Edges(), CONFIG))
    text = (ROOT / "packages/adcommon/README.md").read_text()
    section = text[text.index("## From Python") :]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(compile(example[1], "README.md", "exec"), names)
    assert isinstance(names["model"], ad.Model)
    assert names["result"].path == parts.relative_to(Path.cwd()) / "good/007.png"
    assert isinstance(names["evaluation"], ad.Evaluation)
    assert set(names["evaluation"].extra) == {"detection_rate", "false_alarm_rate"}
    assert names["exported"].threshold == 1.0
    assert "(64, 64) float32" in capsys.readouterr().out


def test_the_example_of_the_first_page_trains_predicts_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "photos", good=80, defects=("scratch",))
    example = re.search(r"## From Python.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(compile(_quick(example[1]), "README.md", "exec"), names)
    assert names["result"].is_anomalous == (names["result"].score > names["run"].model.threshold)
    assert "(64, 64)" in capsys.readouterr().out
    exported = ad.load("model.onnx").predict("photos/scratch/000.png")
    assert exported.score == pytest.approx(names["result"].score, rel=1e-4)


def _quick(example: str) -> str:
    """A short training of a smaller network, which keeps enough of 80 images for a threshold."""
    smaller = "iterations=2, calibration_share=0.5, backbone='test_efficientnet', image_size=64"
    return example.replace("iterations=300", smaller).replace("out=", "weights='random', out=")


def test_every_name_of_the_door_is_there_and_no_other() -> None:
    assert set(ad.__all__) <= set(dir(ad))
    for name in ad.__all__:
        assert getattr(ad, name) is getattr(ad, name)
    assert ad.metrics.auroc(np.array([0.1, 0.9]), np.array([0, 1])) == 1
    with pytest.raises(AttributeError, match="module 'adcommon' has no attribute 'train'"):
        _ = ad.train
    assert not hasattr(ad, "lode")


def test_data_is_a_split_or_several_by_name(parts: Path) -> None:
    split = ad.folder("parts")
    assert isinstance(split, ad.Split)
    assert len(split.train) == 6
    assert split.pixel_truth
    make_folder(parts.parent / "both" / "left")
    make_folder(parts.parent / "both" / "right")
    several = ad.folder("both")
    assert isinstance(several, dict)
    assert list(several) == ["left", "right"]
    assert ad.folder("both", category="left") == several["left"]
    assert isinstance(ad.dataset("elpv", category="mono"), ad.Split)
    with pytest.raises(ad.UserError, match="did you mean 'mvtec'"):
        ad.dataset("mvtecc")
    with pytest.raises(ad.UserError, match="not found at elsewhere"):
        ad.dataset("mvtec", root="elsewhere")


@pytest.mark.usefixtures("parts")
def test_a_file_is_evaluated_as_the_model_it_was_made_of() -> None:
    model = from_detector(Edges(), CONFIG)
    ad.export(model, "edges.onnx")
    split = ad.folder("parts")
    assert isinstance(split, ad.Split)
    ours, theirs = ad.evaluate(ad.load("edges.onnx"), split), ad.evaluate(model, split, batch_size=3)
    assert ours.category == "parts"
    assert (ours.image_auroc, ours.extra) == (theirs.image_auroc, theirs.extra)
    assert ours.aupro == pytest.approx(theirs.aupro, abs=1e-3)
    with pytest.raises(ad.UserError, match="no test images"):
        ad.evaluate(model, ad.Split(split.train, []))


@pytest.mark.slow
@pytest.mark.usefixtures("parts")
def test_the_application_for_ray_serve_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)
    assert example is not None
    Path("inspection.py").write_text(example[1], encoding="utf-8")
    ad.export(from_detector(Edges(), CONFIG), "edges.onnx")
    monkeypatch.setenv("MODEL", str(tmp_path / "edges.onnx"))
    photo = Path("parts/scratch/000.png")
    run_with_ray(sys.executable, ROOT / "tests/ray_serve.py", tmp_path, photo, ROOT / "README.md")
    (status, said), (refused, why) = json.loads(Path("answers.json").read_text(encoding="utf-8"))
    wanted = ad.load("edges.onnx").predict(photo)
    assert (status, said["decision"]) == (200, wanted.decision)
    assert said["score"] == pytest.approx(wanted.score, rel=1e-5)
    assert (refused, why["score"]) == (422, None)
    assert "none of the formats" in why["error"]
