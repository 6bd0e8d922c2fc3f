"""A training that has no more time ends as a whole one does: with a model, its numbers, and a word of it.

The models are made of tiles, or look at tiles, and score photographs of another size than those.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trainings import FEW_SHOT, PREDICTS, TRAININGS

from adcommon.deploy.load import load
from adcommon.errors import BadValue
from adcommon.io.images import list_images
from adcommon.testing.commands import read_rows, read_table, succeed
from adcommon.testing.trees import make_mvtec
from adcommon.training.trials import Trial, cut_short


@pytest.mark.parametrize("command", PREDICTS)
def test_a_training_without_time_leaves_a_model(command: str, tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=12)
    if command in FEW_SHOT:
        make_mvtec(tmp_path / "VisA_pytorch" / "1cls", categories=("candle",), train=6, seed=3)
    words = [*TRAININGS[command].split(), "--data-root", tmp_path, "--device", "cpu", "--minutes", "1e-6"]
    out, few_shot = tmp_path / "run", command in FEW_SHOT
    done = succeed(command, *words, "--profile", "--out", out, *([] if few_shot else ["--tile", "48"]))
    assert "--profile wrote no trace: it begins after 5 steps" in done.stderr
    assert read_rows(out)
    (config,) = out.glob("*/model/config.json")
    found = cut_short(Trial("short", command, out, ()))
    assert found is not None
    assert 1 <= int(found["last"]) <= 2 < int(found["all"])
    for line in read_table(config.parent.parent / "speed.csv"):
        figures = {name: float(value) for name, value in line.items()}
        assert figures["images_per_second"] * figures["step_seconds"] == pytest.approx(4)  # images of a step
        assert 0 < figures["waiting_share"] < 1

    good = list_images(tmp_path / "mvtec_anomaly_detection/bottle/train/good")
    if few_shot:
        model = load(config.parent, references=good[:4], tile=48)
        assert len(model.calibration.scores) == 4
    else:
        with pytest.raises(BadValue, match="was trained on images in tiles of 48"):
            load(config.parent, tile=32)
        model = load(config.parent)
    (photo := Image.open(good[5]).resize((80, 60))).save(tmp_path / "photo.png")
    result = model.predict(tmp_path / "photo.png")
    assert len(model.preprocess.boxes(*photo.size)) == 4
    assert result.anomaly_map.shape == (60, 80)
    assert np.isfinite(result.score)
