"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

from functools import partial

import pytest

import adcommon as ad
from adcommon.testing.commands import call, flags, read_rows, read_table, refused, succeed
from adcommon.testing.processes import run_together
from adcommon.testing.trees import make_mvtec

SMALL = {
    "--backbone": "test_efficientnet",
    "--weights": "random",
    "--image-size": "64",
    "--batch-size": "2",
    "--calibration-share": "0.2",
    "--false-alarm-rate": "0.5",
    "--device": "cpu",
    "--coreset": "0.2",
}
small = partial(flags, SMALL)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    make_mvtec(folder, categories=("parts",), train=6)
    succeed("patchcore-train", "--data", folder / "parts", "--out", folder / "run", "--maps", *small())
    return folder


@pytest.mark.slow
def test_train_evaluate_predict_export(parts, tmp_path) -> None:
    (row,) = read_rows(parts / "run")
    model = parts / "run" / "parts" / "model"
    succeed(
        "patchcore-evaluate",
        "--model",
        model,
        "--data",
        parts / "parts",
        "--out",
        tmp_path / "again",
        "--device",
        "cpu",
    )
    (again,) = read_rows(tmp_path / "again")
    assert again["image_auroc"] == row["image_auroc"]
    images = parts / "parts" / "test"
    succeed("patchcore-predict", images, "--model", model, "--out", tmp_path / "scored", "--device", "cpu")
    scored = read_table(tmp_path / "scored" / "predictions.csv")
    assert {entry["decision"] for entry in scored} <= {"normal", "anomalous"}
    pytest.importorskip("onnxruntime")
    assert ad.export(ad.load(model), tmp_path / "model.onnx").difference < 1e-4
    exported = ad.load(tmp_path / "model.onnx")
    image = next(images.rglob("*.png"))
    assert exported.predict(image).score == pytest.approx(ad.load(model).predict(image).score, rel=1e-4)


def test_a_second_run_needs_force_or_resume(parts) -> None:
    words = ["--data", parts / "parts", "--out", parts / "run", *small()]
    assert "--resume" in refused("patchcore-train", *words)
    succeed("patchcore-train", *words, "--maps", "--resume")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"--image-size": "60"}, "multiple"),
        ({"--shots": "50"}, "50 shots"),
        ({"--strides": "3"}, "strides"),
        ({"--layers": "2"}, "no plain vision transformer"),
        ({"--neighbourhood": "4"}, "odd"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(parts, tmp_path, wrong, message) -> None:
    words = ["--data", parts / "parts", "--out", tmp_path / "run", *flags(SMALL | wrong)]
    assert message in refused("patchcore-train", *words)
    assert not (tmp_path / "run").exists()


def test_the_paper_is_what_is_trained_where_nothing_is_named(tmp_path) -> None:
    assert "mvtec" in refused("patchcore-train", "--data-root", tmp_path, "--weights", "random")
    assert call("patchcore-train", "--help").returncode == 0


def test_two_processes_leave_the_model_of_one(parts, tmp_path) -> None:
    words = ["--data", parts / "parts", "--out", tmp_path / "two", *small()]
    both = run_together("patchcore-train", *words)
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    one, two = (
        folder / "parts" / "model" / "model.safetensors" for folder in (parts / "run", tmp_path / "two")
    )
    assert one.read_bytes() == two.read_bytes()
