"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from adcommon.testing.commands import flags, read_rows, read_table, refused, succeed
from adcommon.testing.processes import run_together
from adcommon.testing.runs import killed_and_resumed, one_of_two_stopped
from adcommon.testing.trees import make_cifar10, make_folder, make_mvtec

SMALL = {
    "--backbone": "resnet18",
    "--strides": "4 8 16",
    "--weights": "random",
    "--image-size": "64",
    "--neighbourhood": "3 3",
    "--hidden-dim": "32",
    "--encoder-layers": "1",
    "--decoder-layers": "1",
    "--batch-size": "4",
    "--epochs": "2",
    "--evaluate-every": "1",
    "--device": "cpu",
}
"""Flags of a training that takes a second."""

READINGS = ("loss", "gradient_norm")
small = partial(flags, SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short `uniad-train` on two drawn categories."""
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle", "cable"))
    succeed(
        "uniad-train",
        *("--data-root", folder, "--category", "bottle", "cable", "--out", folder / "run", "--maps"),
        *small(calibration_share="0.2", false_alarm_rate="0.5"),
    )
    return folder


def test_one_model_for_all_leaves_metrics_tables_and_pictures(trained: Path) -> None:
    run = trained / "run"
    rows = read_rows(run)
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "uniad")),
        *(("cable", "standard"), ("cable", "uniad")),
    ]
    assert {row["setting"] for row in rows} == {"multi-class"}
    assert set(rows[1]["extra"]) == {"max_auroc", "mean_auroc", "std_auroc"}
    table = read_table(run / "all" / "metrics.csv")
    assert [int(entry["step"]) for entry in table] == [1, 2, 3, 4, 5, 6]
    assert [bool(entry["cable/aupro"]) for entry in table] == [False, False, True, False, False, False]
    for folder in ("model", "model-best"):
        names = sorted(path.name for path in (run / "all" / folder).iterdir())
        assert names == [".adcommon", "README.md", "config.json", "model.safetensors"]
    assert {path.parent.parent.name for path in (run / "all" / "maps").glob("*/*/*.jpg")} == {
        "bottle",
        "cable",
    }
    assert "RANDOM" in (run / "results.md").read_text().upper()


def test_evaluate_repeats_the_numbers_and_predict_decides_by_the_threshold(trained: Path, tmp_path) -> None:
    model = trained / "run" / "all" / "model"
    place = ("--data-root", trained, "--device", "cpu", "--batch-size", "4")
    succeed("uniad-evaluate", "--model", model, *place, "--out", tmp_path / "again")
    for old, new in zip(read_rows(trained / "run"), read_rows(tmp_path / "again"), strict=True):
        assert new["image_auroc"] == pytest.approx(old["image_auroc"], abs=1e-6)
        assert new["pixel_auroc"] == pytest.approx(old["pixel_auroc"], abs=1e-3)
        assert new["extra"].keys() == old["extra"].keys()
    images = make_folder(tmp_path / "images", good=2)
    succeed("uniad-predict", images, "--model", model, "--out", tmp_path / "scored", "--device", "cpu")
    scored = read_table(tmp_path / "scored" / "predictions.csv")
    assert {row["decision"] for row in scored} <= {"normal", "anomalous"}


def test_the_authors_layout_goes_out_and_into_every_command(trained: Path, tmp_path: Path) -> None:
    model, file = trained / "run" / "all" / "model", tmp_path / "ckpt.pth.tar"
    place = ("--data-root", trained, "--category", "bottle", "--device", "cpu", "--batch-size", "4")
    succeed("uniad-evaluate", "--model", model, *place, "--out", tmp_path / "a", "--save-official", file)
    # The authors' files name no weights of ours: a bare ResNet is theirs by its torchvision weights.
    succeed("uniad-evaluate", "--checkpoint", file, "--dataset", "mvtec", *place, "--out", tmp_path / "b")
    ours, theirs = (read_rows(tmp_path / name)[0] for name in "ab")
    assert theirs["image_auroc"] == ours["image_auroc"]
    images = make_folder(tmp_path / "images", good=1)
    succeed("uniad-predict", images, "--checkpoint", file, "--out", tmp_path / "c", "--device", "cpu")
    succeed(
        "uniad-train",
        *("--data-root", trained, "--category", "bottle", "--out", tmp_path / "d", "--init-from", file),
        *small(iterations="1"),
    )


def test_the_paper_pictures_and_the_picture_decoder(trained: Path, tmp_path: Path) -> None:
    model = trained / "run" / "all" / "model"
    place = ("--data-root", trained, "--category", "bottle", "--device", "cpu")
    succeed(
        "uniad-evaluate",
        *("--model", model, *place, "--out", tmp_path / "e", "--maps", "--vis", "compound"),
        *("--save-features", tmp_path / "features"),
    )
    assert list((tmp_path / "e" / "maps").glob("spot/*.png"))
    flags = small(iterations="1", batch_size="8")
    succeed("uniad-train-decoder", *place[:4], "--out", tmp_path / "decoder", *flags)
    common = ("--decoder", tmp_path / "decoder", *place)
    succeed("uniad-vis-recon", "--model", model, *common, "--out", tmp_path / "recon")
    succeed("uniad-vis-recon", "--features", tmp_path / "features", *common, "--out", tmp_path / "saved")
    for folder in ("recon", "saved"):
        assert len(list((tmp_path / folder / "bottle").glob("*/*.jpg"))) == 6
    succeed(
        "uniad-vis-query",
        *("--model", model, "--decoder", tmp_path / "decoder", "--category", "bottle", "--device", "cpu"),
        *("--out", tmp_path / "query", "--bn", "batch"),
    )
    assert (tmp_path / "query" / "query_bottle.jpg").is_file()
    said = refused("uniad-vis-recon", *common)
    assert "--model, or --features" in said


def test_separate_models_and_the_authors_lists_and_files(trained: Path, tmp_path: Path) -> None:
    succeed("uniad-metadata", "--data-root", trained, "--category", "bottle", "cable", "--out", tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "test.json").read_text().splitlines()]
    assert {line["clsname"] for line in lines} == {"bottle", "cable"}
    assert all(("maskname" in line) == (line["label"] == 1) for line in lines)
    succeed(
        "uniad-train",
        *("--meta-train", tmp_path / "train.json", "--meta-test", tmp_path / "test.json"),
        *("--image-dir", trained / "mvtec", "--separate", "--out", tmp_path / "run"),
        *small(iterations="1"),
    )
    assert (tmp_path / "run" / "cable" / "model").is_dir()
    rows = read_rows(tmp_path / "run")
    assert {row["setting"] for row in rows} == {"one-class"}
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (recipe["dataset"], recipe["protocol"]) == ("folder", "standard")  # the recipe for own data
    succeed("uniad-train", "--config", tmp_path / "run" / "recipe.yaml", "--out", tmp_path / "again")
    again = read_rows(tmp_path / "again")
    assert [row["image_auroc"] for row in again] == [row["image_auroc"] for row in rows]


def test_the_authors_configuration_file_trains(trained: Path, tmp_path: Path) -> None:
    succeed("uniad-metadata", "--data-root", trained, "--category", "bottle", "--out", tmp_path)
    content = {
        "random_seed": 3,
        "dataset": {
            "type": "custom",
            "image_reader": {"type": "opencv", "kwargs": {"image_dir": str(trained / "mvtec")}},
            "train": {"meta_file": "train.json"},
            "test": {"meta_file": "test.json"},
            "input_size": [64, 64],
            "batch_size": 4,
        },
        "trainer": {"max_epoch": 1, "optimizer": {"type": "AdamW", "kwargs": {"lr": 0.001}}},
        "net": [
            {
                "name": "backbone",
                "type": "models.backbones.resnet18",
                "kwargs": {"pretrained": True, "outlayers": [1, 2, 3]},
            },
            {"name": "neck", "type": "models.necks.MFCN", "kwargs": {"outstrides": [16]}},
            {
                "name": "reconstruction",
                "type": "models.reconstructions.UniAD",
                "kwargs": {"hidden_dim": 32, "num_encoder_layers": 1, "num_decoder_layers": 1},
            },
        ],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    succeed(
        "uniad-train",
        *("--config", tmp_path / "config.yaml", "--out", tmp_path / "run"),
        *("--weights", "random", "--device", "cpu"),
    )
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    wanted = {"seed": 3, "lr": 0.001, "epochs": 1, "backbone": "resnet18.tv_in1k", "protocol": "uniad"}
    assert {name: recipe[name] for name in wanted} == wanted
    content["trainer"]["max_epochs"] = 2
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    said = refused("uniad-train", "--config", tmp_path / "config.yaml", "--out", tmp_path / "other")
    assert "did you mean trainer.max_epoch?" in said


def test_cifar_trains_one_model_for_each_split_of_classes(tmp_path: Path) -> None:
    make_cifar10(tmp_path / "data" / "CIFAR-10" / "cifar-10-batches-py")
    succeed(
        "uniad-train",
        *("--dataset", "cifar10", "--normals", "01234", "13579", "--data-root", tmp_path / "data"),
        *("--out", tmp_path / "run", *small(iterations="1", batch_size="16")),
    )
    rows = read_rows(tmp_path / "run")
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("01234", "standard"), ("01234", "uniad")),
        *(("13579", "standard"), ("13579", "uniad")),
    ]
    for row in rows:
        assert row["pixel_auroc"] is None
        assert row["image_auroc"] == pytest.approx(rows[rows.index(row) | 1]["extra"]["mean_auroc"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("uniad-train", "--data-root", "{root}/nowhere"), "mvtec_anomaly_detection"),
        (("uniad-train", "--image-size", "100", "--data-root", "{root}"), "multiple of 16"),
        (("uniad-train", "--data-root", "{root}", "--category", "botle"), "did you mean 'bottle'"),
        (("uniad-evaluate", "--model", "{root}/nowhere"), "no model at"),
        (("uniad-predict", "{root}", "--model", "{root}/nowhere"), "no model at"),
        (("uniad-metadata", "--layout", "mvtek"), "did you mean 'mvtec'"),
        (("uniad-train", "--meta-train", "{root}/train.json"), "go together"),
    ],
)
def test_mistakes_end_with_a_message_and_exit_code_2(trained: Path, arguments, message: str) -> None:
    said = refused(*(argument.format(root=trained) for argument in arguments))
    assert message in said


def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(trained: Path, tmp_path: Path) -> None:
    words = ["--data-root", trained, "--category", "bottle", "cable", *small(evaluate_every="1")]
    killed_and_resumed("uniad-train", words, tmp_path, "all")


@pytest.mark.slow
def test_two_processes_with_parts_of_their_batches_train_one_model_without_noise_as_one_does(
    trained: Path, tmp_path: Path
) -> None:
    words = ["--data-root", trained, "--category", "bottle", "cable"]
    words += small(jitter_scale="0", dropout="0", iterations="4")
    succeed("uniad-train", *words, "--out", tmp_path / "one")
    for done in run_together("uniad-train", *words, "--accumulate", "2", "--out", tmp_path / "two"):
        assert done.returncode == 0, done.stderr
    one, two = (
        [float(row[name]) for row in read_table(tmp_path / run / "all/metrics.csv") for name in READINGS]
        for run in ("one", "two")
    )
    assert len(two) == 4 * len(READINGS)
    assert two == pytest.approx(one, rel=1e-4)


def test_a_signal_to_one_of_two_processes_stops_both(trained: Path, tmp_path: Path) -> None:
    words = ["--data-root", trained, "--category", "bottle", "cable"]
    words += small(iterations="6")
    one_of_two_stopped("uniad-train", words, tmp_path, "all")
