"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import csv
import json
import resource
import subprocess
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from adcommon.testing.console import call, kill_as_soon_as, script
from adcommon.testing.trees import make_class_folders, make_folder, make_mvtec

SMALL = {
    "--backbone": "resnet18",
    "--weights": "random",
    "--image-size": "64",
    "--batch-size": "4",
    "--iterations": "4",
    "--evaluate-every": "2",
    "--device": "cpu",
}


def small(**changed: str) -> list[str]:
    """Flags of a training that takes a second; `changed` by name."""
    flags = SMALL | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return [word for pair in flags.items() for word in pair]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short `recontrast-mvtec` on two drawn categories."""
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle", "cable"))
    done = call(
        "recontrast-mvtec",
        *("--data-root", folder, "--category", "bottle", "cable", "--out", folder / "run", "--maps"),
        *small(),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_mvtec_leaves_models_metrics_tables_and_pictures(trained: Path) -> None:
    run = trained / "run"
    rows = json.loads((run / "results.json").read_text())
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "recontrast")),
        *(("cable", "standard"), ("cable", "recontrast")),
    ]
    for row in rows:
        assert row["weights"] == "random"
        assert 0 <= row["pixel_auroc"] <= 1
        assert 0 <= row["aupro"] <= 1
    with (run / "bottle" / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(entry["step"]) for entry in table] == [1, 2, 3, 4]
    assert [entry["bottle/image_auroc"] != "" for entry in table] == [False, True, False, False]
    assert (run / "recipe.yaml").exists()
    assert "RANDOM" in (run / "results.md").read_text().upper()
    assert sorted(path.name for path in (run / "cable" / "model").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    defects = {path.parent.name for path in (run / "cable" / "maps").glob("*/*.png")}
    assert "good" in defects
    assert list((run / "cable" / "maps").glob("good_*_seg.png"))


def test_evaluate_repeats_the_numbers_of_the_training(trained: Path) -> None:
    out = trained / "again"
    done = call(
        "recontrast-evaluate",
        *("--model", trained / "run" / "cable" / "model", "--data-root", trained, "--out", out),
        *("--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    before = [
        row
        for row in json.loads((trained / "run" / "results.json").read_text())
        if row["category"] == "cable"
    ]
    after = json.loads((out / "results.json").read_text())
    for old, new in zip(before, after, strict=True):
        assert old | {"seconds": 0} == new | {"seconds": 0}


def test_predict_writes_scores_and_maps_and_survives_a_damaged_file(trained: Path, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=3, defective=0)
    (images / "broken.png").write_bytes(b"not an image")
    done = call(
        "recontrast-predict",
        *(images, "--model", trained / "run" / "bottle" / "model", "--out", tmp_path / "out"),
        *("--device", "cpu", "--threshold", "0.5"),
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert sum(row["error"] != "" for row in rows) == 1
    assert len(list((tmp_path / "out" / "maps").rglob("*.png"))) == 3


def test_own_images_train_without_masks_and_store_a_threshold(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "mine", good=24, defective=3, defects=("scratch",))
    done = call(
        "recontrast-train",
        *("--data", images, "--out", tmp_path / "run", "--false-alarm-rate", "0.4", *small()),
    )
    assert done.returncode == 0, done.stderr
    config = json.loads(next((tmp_path / "run").glob("*/model/config.json")).read_text())
    assert config["threshold"]["images"] == 1
    assert config["dataset"] == "folder"
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["pixel_auroc"] for row in rows] == [None]


def test_one_model_for_all_categories(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"))
    done = call(
        "recontrast-mvtec-multiclass",
        *("--data-root", tmp_path, "--category", "bottle", "cable", "--out", tmp_path / "run", *small()),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["setting"] for row in rows} == {"multi-class"}
    assert (tmp_path / "run" / "all" / "model" / "config.json").exists()


def test_medical_set_reports_the_papers_f1_and_accuracy(tmp_path: Path) -> None:
    make_class_folders(tmp_path / "APTOS")
    done = call("recontrast-aptos", "--data-root", tmp_path, "--out", tmp_path / "run", *small())
    assert done.returncode == 0, done.stderr
    paper = json.loads((tmp_path / "run" / "results.json").read_text())[1]
    assert paper["protocol"] == "recontrast"
    assert set(paper["extra"]) == {"image_f1", "image_accuracy"}


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    shared = ["--data-root", tmp_path, "--category", "bottle", "--save-every", "1", "--reset-every", "2"]
    shared += small(iterations="7", evaluate_every="7")
    state = tmp_path / "killed" / "bottle" / "resume" / "state.pt"
    kill_as_soon_as(state, script("recontrast-mvtec-stable", *shared, "--out", tmp_path / "killed"))
    for arguments in (
        [*shared, "--out", tmp_path / "killed", "--resume"],
        [*shared, "--out", tmp_path / "whole"],
    ):
        done = subprocess.run(script("recontrast-mvtec-stable", *arguments), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("resuming after step" in done.stderr) == ("--resume" in arguments)
    for file in ("model/model.safetensors", "metrics.csv"):
        killed, whole = (tmp_path / run / "bottle" / file for run in ("killed", "whole"))
        assert killed.read_bytes() == whole.read_bytes(), file


def test_sigterm_saves_and_a_resume_with_other_values_is_refused(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    arguments = ["--data-root", tmp_path, "--category", "bottle", "--out", tmp_path / "run"]
    arguments += small(iterations="100000", evaluate_every="100000")
    process = subprocess.Popen(script("recontrast-mvtec", *arguments), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    before = []
    for line in process.stderr:
        before.append(line)
        if "training bottle" in line:
            break
    process.terminate()
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 143, "".join(before) + rest
    assert "--resume" in rest
    assert (tmp_path / "run" / "bottle" / "resume" / "state.pt").exists()
    changed = call("recontrast-mvtec", *arguments, "--resume", "--decoder-lr", "0.5")
    assert changed.returncode == 2
    assert "decoder_lr was 0.002, is 0.5" in changed.stderr


def test_a_full_disk_ends_with_a_message_and_the_run_goes_on_later(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    arguments = ["--data-root", tmp_path, "--category", "bottle", "--out", tmp_path / "run", *small()]
    full = subprocess.run(
        script("recontrast-mvtec", *arguments),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000)),
    )
    assert full.returncode == 2, full.stderr
    assert "cannot write" in full.stderr
    assert "Traceback" not in full.stderr
    assert call("recontrast-mvtec", *arguments, "--resume").returncode == 0
    assert (tmp_path / "run" / "bottle" / "model" / "model.safetensors").exists()


def test_missing_data_says_what_to_download_and_where_to_put_it(tmp_path: Path) -> None:
    done = call("recontrast-mvtec", "--data-root", tmp_path / "nothing")
    assert done.returncode == 2
    for part in ("mvtec_anomaly_detection.tar.xz", "https://www.mvtec.com", "train/good", str(tmp_path)):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--category", "botle"], "did you mean 'bottle'"),
        (["--iteratoins", "3"], "--iterations"),
        (["--gpu", "first"], "--gpu is 'first'"),
        (["--device", "cuda:99"], "which this machine does not have"),
        (small(backbone="resnett18"), "unknown backbone: 'resnett18'"),
        (small(image_size="50"), "multiple of 32"),
        (small(iterations="0"), "iterations is 0"),
        (small(precision="fp16"), "needs a CUDA GPU"),
        ([*small(), "--sync-batch-norm"], "needs several GPUs"),
    ],
)
def test_a_bad_value_is_one_message_and_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    category = [] if "--category" in arguments else ["--category", "bottle"]
    done = call("recontrast-mvtec", "--data-root", tmp_path, "--out", tmp_path / "run", *category, *arguments)
    assert done.returncode == 2, done.stderr
    assert words in " ".join((done.stdout + done.stderr).replace("│", " ").split())


def test_a_damaged_image_is_named_before_the_first_step(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    damaged = sorted((tmp_path / "mvtec" / "bottle" / "train" / "good").iterdir())[-1]
    damaged.write_bytes(damaged.read_bytes()[:40])
    done = call(
        "recontrast-mvtec",
        "--data-root",
        tmp_path,
        "--category",
        "bottle",
        "--out",
        tmp_path / "run",
        *small(),
    )
    assert done.returncode == 2
    assert str(damaged) in done.stderr
    assert not (tmp_path / "run" / "bottle" / "metrics.csv").exists()


def test_missing_weights_name_the_file_the_address_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    arguments = ["--category", "bottle", "--out", tmp_path / "run", "--device", "cpu"]
    done = call("recontrast-mvtec", "--data-root", tmp_path, *arguments)
    assert done.returncode == 2
    for part in (
        "wide_resnet50_2-95faca4d.pth",
        "https://download.pytorch.org",
        "95faca4d",
        str(tmp_path / "hub"),
    ):
        assert part in done.stderr


def test_a_full_folder_is_not_overwritten(trained: Path) -> None:
    arguments = ["--data-root", trained, "--category", "bottle", "--out", trained / "run", *small()]
    done = call("recontrast-mvtec", *arguments)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert "--force" in done.stderr


def test_a_wrong_model_folder_is_refused(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    done = call("recontrast-evaluate", "--model", tmp_path / "mvtec", "--device", "cpu")
    assert done.returncode == 2
    assert "config.json" in done.stderr


def test_two_processes_share_each_batch(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    arguments = ["--data-root", tmp_path, "--category", "bottle", "--out", tmp_path / "run", *small()]
    command = script("recontrast-mvtec", *arguments, processes=2)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "processes 2" in done.stderr
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert len(rows) == 2
    assert load_file(tmp_path / "run" / "bottle" / "model" / "model.safetensors")
