"""What the pages for practitioners tell people to type works as it is written."""

import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adcommon.cli import model_commands, reproduced, sweep
from adcommon.cli.deciding import Deciding
from adcommon.cli.many import Many
from adcommon.data import DATASETS
from adcommon.data.preprocess import Preprocess
from adcommon.deploy.many.predict import Counted
from adcommon.deploy.model import Model
from adcommon.testing.commands import refused, succeed
from adcommon.testing.trees import make_folder, make_mvtec
from adcommon.training import apart
from adcommon.types.prediction import Prediction

DOCS = Path(__file__).parents[1] / "docs"
SHORT = {"--minutes 20": "--minutes 2 --methods padim"}
"""What a test has no time for, and what it does instead."""
SHORT_TRAINING = "padim-train --recipe small --data photos --force"


def commands(page: str) -> list[str]:
    """The commands in a page's blocks, and those in its running text that can be run by themselves."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"uv run ([^`\n]+)", text)


def test_every_launch_of_the_page_is_understood(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for category in "ab":
        make_folder(tmp_path / "photos" / category, good=12, defects=("Defective",))
    make_mvtec(tmp_path / "data/mvtec_anomaly_detection", DATASETS["mvtec"].categories, train=1)
    launched: list[tuple[str, int]] = []
    for room in (sweep, apart, reproduced):
        monkeypatch.setattr(
            room,
            "run_trials",
            lambda trials, launch, folder, stop: launched.append((launch.launcher, len(trials))) or trials,
        )
    trainings = [command for command in commands("clusters.md") if not command.startswith("ad predict")]
    for command in trainings:
        words = command.replace("recontrast-mvtec --data-root data", SHORT_TRAINING)
        assert "runs failed" in refused(*shlex.split(words))
    assert launched == [
        *(("local", 3), ("local", 2), ("local", 6), ("local", 1)),
        *(("slurm", 2), ("ray", 6)),
    ]


def test_every_prediction_of_the_page_is_understood(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Model(lambda pixels: Prediction(pixels), Preprocess(), {"method": "drawn"})
    asked: list[tuple[str, float, bool]] = []

    def predicted(loaded: Model, load, images: str, out: Path, many: Many, *, maps: bool, **_) -> Counted:
        asked.append((images, many.gpus, maps))
        return Counted(1, Counter(normal=1), 0, None, np.zeros(1), {})

    monkeypatch.setattr(Deciding, "load", lambda *_: (model, "cpu"))
    monkeypatch.setattr(model_commands, "predict_on_ray", predicted)
    (tmp_path / "model.onnx").touch()
    for command in commands("clusters.md"):
        if command.startswith("ad predict"):
            succeed(*shlex.split(command.replace("/shared/model ", "model.onnx ")))
    assert asked == [("s3://bucket/photos", 0, False), ("/shared/photos.parquet", 1, True)]


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
