"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import json
import resource
import signal
from functools import partial
from pathlib import Path

import pytest

from adcommon.testing.commands import call, flags, read_rows, read_table, refused, succeed
from adcommon.testing.processes import SignalWhenSaving, Started, run_together
from adcommon.testing.runs import killed_and_resumed, one_of_two_stopped
from adcommon.testing.trees import make_class_folders, make_folder, make_mvtec
from recontrast.cli import _default_recipe

SMALL = {
    "--backbone": "test_efficientnet",
    "--weights": "random",
    "--image-size": "64",
    "--batch-size": "4",
    "--iterations": "4",
    "--evaluate-every": "2",
    "--device": "cpu",
}
"""Flags of a training that takes a second."""

small = partial(flags, SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short `recontrast-mvtec` on two drawn categories."""
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle", "cable"))
    succeed(
        "recontrast-mvtec",
        *("--data-root", folder, "--category", "bottle", "cable", "--out", folder / "run", "--maps"),
        *small(),
    )
    return folder


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ("", "own"),
        ("--data photos", "own"),
        ("--dataset mvtec", "mvtec"),
        ("--dataset=oct2017 --maps", "oct"),
        ("--dataset isic2018", "isic"),
        ("--dataset elpv", "own"),
        ("--dataset mvtec --data photos", "own"),
    ],
)
def test_the_papers_dataset_is_trained_by_the_papers_recipe(words: str, recipe: str) -> None:
    assert _default_recipe(words.split()) == recipe


def test_mvtec_leaves_models_metrics_tables_and_pictures(trained: Path) -> None:
    run = trained / "run"
    rows = read_rows(run)
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "recontrast")),
        *(("cable", "standard"), ("cable", "recontrast")),
    ]
    for row in rows:
        assert row["weights"] == "random"
        assert 0 <= row["pixel_auroc"] <= 1
        assert 0 <= row["aupro"] <= 1
    table = read_table(run / "bottle" / "metrics.csv")
    assert [int(entry["step"]) for entry in table] == [1, 2, 3, 4]
    assert [entry["bottle/image_auroc"] != "" for entry in table] == [False, True, False, False]
    assert (run / "recipe.yaml").exists()
    assert "RANDOM" in (run / "results.md").read_text().upper()
    assert sorted(path.name for path in (run / "cable" / "model").iterdir()) == [
        ".adcommon",
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    defects = {path.parent.name for path in (run / "cable" / "maps").glob("*/*.jpg")}
    assert "good" in defects
    assert list((run / "cable" / "maps").glob("good_*_seg.png"))


def test_evaluate_repeats_the_numbers_of_the_training(trained: Path) -> None:
    out = trained / "again"
    succeed(
        "recontrast-evaluate",
        *("--model", trained / "run" / "cable" / "model", "--data-root", trained, "--out", out),
        *("--device", "cpu"),
    )
    assert read_rows(out) == [row for row in read_rows(trained / "run") if row["category"] == "cable"]


def test_predict_writes_scores_and_maps_and_survives_a_damaged_file(trained: Path, tmp_path: Path) -> None:
    images = make_folder(tmp_path / "images", good=3, defective=0)
    (images / "broken.png").write_bytes(b"not an image")
    done = call(
        "recontrast-predict",
        *(images, "--model", trained / "run" / "bottle" / "model", "--out", tmp_path / "out"),
        *("--device", "cpu", "--threshold", "0.5"),
    )
    assert done.returncode == 1
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert len(rows) == 4
    assert sum(row["error"] != "" for row in rows) == 1
    assert len(list((tmp_path / "out" / "maps").glob("*/*.png.jpg"))) == 3


def test_own_images_train_without_masks_and_store_a_threshold(tmp_path: Path) -> None:
    images = make_folder(tmp_path / "mine", good=24, defective=3, defects=("scratch",))
    succeed(
        "recontrast-train",
        *("--data", images, "--out", tmp_path / "run", "--false-alarm-rate", "0.4", *small()),
    )
    config = json.loads(next((tmp_path / "run").glob("*/model/config.json")).read_text())
    assert config["threshold"]["images"] == 1
    assert config["dataset"] == "folder"
    rows = read_rows(tmp_path / "run")
    assert [row["pixel_auroc"] for row in rows] == [None]


def test_one_model_for_all_categories(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"))
    succeed(
        "recontrast-mvtec-multiclass",
        *("--data-root", tmp_path, "--category", "bottle", "cable", "--out", tmp_path / "run", *small()),
    )
    rows = read_rows(tmp_path / "run")
    assert {row["setting"] for row in rows} == {"multi-class"}
    assert (tmp_path / "run" / "all" / "model" / "config.json").exists()


def test_medical_set_reports_the_papers_f1_and_accuracy(tmp_path: Path) -> None:
    make_class_folders(tmp_path / "APTOS")
    succeed("recontrast-aptos", "--data-root", tmp_path, "--out", tmp_path / "run", *small())
    paper = read_rows(tmp_path / "run")[1]
    assert paper["protocol"] == "recontrast"
    assert set(paper["extra"]) == {"image_f1", "image_accuracy"}


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    words = ["--data-root", tmp_path, "--category", "bottle", "--reset-every", "2"]
    words += small(iterations="7", evaluate_every="7")
    killed_and_resumed("recontrast-mvtec-stable", words, tmp_path, "bottle")


def test_sigterm_saves_and_a_resume_with_other_values_is_refused(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    run = tmp_path / "run" / "bottle"
    arguments = ["--data-root", tmp_path, "--category", "bottle", "--out", tmp_path / "run"]
    arguments += small(iterations="100000", evaluate_every="1")
    first_step = SignalWhenSaving(run / "metrics.csv", signal.SIGTERM)
    stopped = Started("recontrast-mvtec", *arguments, before=first_step).wait()
    assert stopped.returncode == 143, stopped.stderr
    assert "--resume" in stopped.stderr
    assert (run / "resume" / "state.pt").exists()
    said = refused("recontrast-mvtec", *arguments, "--resume", "--decoder-lr", "0.5")
    assert "decoder_lr was 0.002, is 0.5" in said


def test_a_full_disk_ends_with_a_message_and_the_run_goes_on_later(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    arguments = ["--data-root", tmp_path, "--category", "bottle", "--out", tmp_path / "run", *small()]
    small_disk = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    full = Started("recontrast-mvtec", *arguments, before=small_disk).wait()
    assert full.returncode == 2, full.stderr
    assert "cannot write" in full.stderr
    assert "Traceback" not in full.stderr
    succeed("recontrast-mvtec", *arguments, "--resume")
    assert (tmp_path / "run" / "bottle" / "model" / "model.safetensors").exists()


def test_missing_data_says_what_to_download_and_where_to_put_it(tmp_path: Path) -> None:
    said = refused("recontrast-mvtec", "--data-root", tmp_path / "nothing")
    for part in ("mvtec_anomaly_detection.tar.xz", "https://www.mvtec.com", "train/good", str(tmp_path)):
        assert part in said


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
    place = ("--data-root", tmp_path, "--out", tmp_path / "run")
    assert words in refused("recontrast-mvtec", *place, *category, *arguments)


def test_a_damaged_image_is_named_before_the_first_step(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    damaged = sorted((tmp_path / "mvtec" / "bottle" / "train" / "good").iterdir())[-1]
    damaged.write_bytes(damaged.read_bytes()[:40])
    place = ("--data-root", tmp_path, "--category", "bottle", "--out", tmp_path / "run")
    said = refused("recontrast-mvtec", *place, *small())
    assert str(damaged) in said
    assert not (tmp_path / "run" / "bottle" / "metrics.csv").exists()


def test_missing_weights_name_the_file_the_address_and_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    arguments = ["--category", "bottle", "--out", tmp_path / "run", "--device", "cpu"]
    said = refused("recontrast-mvtec", "--data-root", tmp_path, *arguments)
    for part in (
        "wide_resnet50_2-95faca4d.pth",
        "https://download.pytorch.org",
        "95faca4d",
        str(tmp_path / "hub"),
    ):
        assert part in said


def test_a_full_folder_is_not_overwritten(trained: Path) -> None:
    arguments = ["--data-root", trained, "--category", "bottle", "--out", trained / "run", *small()]
    said = refused("recontrast-mvtec", *arguments)
    assert "--resume" in said
    assert "--force" in said


def test_a_wrong_model_folder_is_refused(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    said = refused("recontrast-evaluate", "--model", tmp_path / "mvtec", "--device", "cpu")
    assert "config.json" in said


def test_two_processes_share_each_batch_and_measure_the_model_that_is_saved(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    words = ["--data-root", tmp_path, "--category", "bottle", *small(test_batch_size="2")]
    both = run_together("recontrast-mvtec", *words, "--out", tmp_path / "run")
    assert [done.returncode for done in both] == [0, 0], both[0].stderr
    assert "processes 2" in both[0].stderr
    model = ["--model", tmp_path / "run" / "bottle" / "model", "--data-root", tmp_path, "--device", "cpu"]
    succeed("recontrast-evaluate", *model, "--batch-size", "2", "--out", tmp_path / "again")
    rows = read_rows(tmp_path / "run")
    assert len(rows) == 2
    assert rows == read_rows(tmp_path / "again")


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(tmp_path: Path) -> None:
    make_mvtec(tmp_path / "mvtec", categories=("bottle",))
    words = ["--data-root", tmp_path, "--category", "bottle", *small(iterations="6", evaluate_every="6")]
    one_of_two_stopped("recontrast-mvtec", words, tmp_path, "bottle")
