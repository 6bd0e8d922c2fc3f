"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.numpy import load_file

from adcommon.testing.console import call, kill_as_soon_as, script
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


def small(**changed: str) -> list[str]:
    """Flags of a training that takes a second; `changed` by name."""
    flags = SMALL | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return [word for name, value in flags.items() for word in (name, *value.split())]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short `uniad-train` on two drawn categories."""
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle", "cable"))
    done = call(
        "uniad-train",
        *("--data-root", folder, "--category", "bottle", "cable", "--out", folder / "run", "--maps"),
        *small(calibration_share="0.2"),
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_one_model_for_all_leaves_metrics_tables_and_pictures(trained: Path) -> None:
    run = trained / "run"
    rows = json.loads((run / "results.json").read_text())
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "uniad")),
        *(("cable", "standard"), ("cable", "uniad")),
    ]
    assert {row["setting"] for row in rows} == {"multi-class"}
    assert set(rows[1]["extra"]) == {"max_auroc", "mean_auroc", "std_auroc"}
    with (run / "all" / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(entry["step"]) for entry in table] == [1, 2, 3, 4, 5, 6]
    assert [bool(entry["cable/aupro"]) for entry in table] == [False, False, True, False, False, False]
    for folder in ("model", "model-best"):
        names = sorted(path.name for path in (run / "all" / folder).iterdir())
        assert names == ["README.md", "config.json", "model.safetensors"]
    assert {path.parent.parent.name for path in (run / "all" / "maps").glob("*/*/*.png")} == {
        "bottle",
        "cable",
    }
    assert "RANDOM" in (run / "results.md").read_text().upper()


def test_evaluate_repeats_the_numbers_and_predict_decides_by_the_threshold(trained: Path, tmp_path) -> None:
    model = trained / "run" / "all" / "model"
    place = ("--data-root", trained, "--device", "cpu", "--batch-size", "4")
    done = call("uniad-evaluate", "--model", model, *place, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    before, after = (
        [{**row, "seconds": 0} for row in json.loads((folder / "results.json").read_text())]
        for folder in (trained / "run", tmp_path / "again")
    )
    for old, new in zip(before, after, strict=True):
        assert new["image_auroc"] == pytest.approx(old["image_auroc"], abs=1e-6)
        assert new["pixel_auroc"] == pytest.approx(old["pixel_auroc"], abs=1e-3)
        assert new["extra"].keys() == old["extra"].keys()
    images = make_folder(tmp_path / "images", good=2)
    done = call("uniad-predict", images, "--model", model, "--out", tmp_path / "scored", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "scored" / "predictions.csv").open() as file:
        assert {row["decision"] for row in csv.DictReader(file)} <= {"normal", "anomalous"}


def test_the_authors_layout_goes_out_and_into_every_command(trained: Path, tmp_path: Path) -> None:
    model, file = trained / "run" / "all" / "model", tmp_path / "ckpt.pth.tar"
    place = ("--data-root", trained, "--category", "bottle", "--device", "cpu", "--batch-size", "4")
    done = call("uniad-evaluate", "--model", model, *place, "--out", tmp_path / "a", "--save-official", file)
    assert done.returncode == 0, done.stderr
    # The authors' files name no weights of ours: a bare ResNet is theirs by its torchvision weights.
    done = call("uniad-evaluate", "--checkpoint", file, "--dataset", "mvtec", *place, "--out", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads((tmp_path / name / "results.json").read_text())[0] for name in "ab")
    assert theirs["image_auroc"] == ours["image_auroc"]
    images = make_folder(tmp_path / "images", good=1)
    done = call("uniad-predict", images, "--checkpoint", file, "--out", tmp_path / "c", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    done = call(
        "uniad-train",
        *("--data-root", trained, "--category", "bottle", "--out", tmp_path / "d", "--init-from", file),
        *small(iterations="1"),
    )
    assert done.returncode == 0, done.stderr


def test_the_paper_pictures_and_the_picture_decoder(trained: Path, tmp_path: Path) -> None:
    model = trained / "run" / "all" / "model"
    place = ("--data-root", trained, "--category", "bottle", "--device", "cpu")
    done = call(
        "uniad-evaluate",
        *("--model", model, *place, "--out", tmp_path / "e", "--maps", "--vis", "compound"),
        *("--save-features", tmp_path / "features"),
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "e" / "maps").glob("spot/*.png"))
    flags = small(iterations="1", batch_size="8")
    done = call("uniad-train-decoder", *place[:4], "--out", tmp_path / "decoder", *flags)
    assert done.returncode == 0, done.stderr
    common = ("--decoder", tmp_path / "decoder", *place)
    done = call("uniad-vis-recon", "--model", model, *common, "--out", tmp_path / "recon")
    assert done.returncode == 0, done.stderr
    done = call("uniad-vis-recon", "--features", tmp_path / "features", *common, "--out", tmp_path / "saved")
    assert done.returncode == 0, done.stderr
    for folder in ("recon", "saved"):
        assert len(list((tmp_path / folder / "bottle").glob("*/*.jpg"))) == 6
    done = call(
        "uniad-vis-query",
        *("--model", model, "--decoder", tmp_path / "decoder", "--category", "bottle", "--device", "cpu"),
        *("--out", tmp_path / "query", "--bn", "batch"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "query" / "query_bottle.jpg").is_file()
    done = call("uniad-vis-recon", *common)
    assert done.returncode == 2
    assert "--model, or --features" in done.stderr


def test_separate_models_and_the_authors_lists_and_files(trained: Path, tmp_path: Path) -> None:
    done = call("uniad-metadata", "--data-root", trained, "--category", "bottle", "cable", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "test.json").read_text().splitlines()]
    assert {line["clsname"] for line in lines} == {"bottle", "cable"}
    assert all(("maskname" in line) == (line["label"] == 1) for line in lines)
    done = call(
        "uniad-train",
        *("--meta-train", tmp_path / "train.json", "--meta-test", tmp_path / "test.json"),
        *("--image-dir", trained / "mvtec", "--separate", "--out", tmp_path / "run"),
        *small(iterations="1"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "cable" / "model").is_dir()
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["setting"] for row in rows} == {"one-class"}
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (recipe["dataset"], recipe["protocol"]) == ("folder", "standard")  # the recipe for own data
    done = call("uniad-train", "--config", tmp_path / "run" / "recipe.yaml", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert [row["image_auroc"] for row in again] == [row["image_auroc"] for row in rows]


def test_the_authors_configuration_file_trains(trained: Path, tmp_path: Path) -> None:
    done = call("uniad-metadata", "--data-root", trained, "--category", "bottle", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
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
    done = call(
        "uniad-train",
        *("--config", tmp_path / "config.yaml", "--out", tmp_path / "run"),
        *("--weights", "random", "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    wanted = {"seed": 3, "lr": 0.001, "epochs": 1, "backbone": "resnet18.tv_in1k", "protocol": "uniad"}
    assert {name: recipe[name] for name in wanted} == wanted
    content["trainer"]["max_epochs"] = 2
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    done = call("uniad-train", "--config", tmp_path / "config.yaml", "--out", tmp_path / "other")
    assert done.returncode == 2
    assert "did you mean trainer.max_epoch?" in done.stderr


def test_cifar_trains_one_model_for_each_split_of_classes(tmp_path: Path) -> None:
    make_cifar10(tmp_path / "data" / "CIFAR-10" / "cifar-10-batches-py")
    done = call(
        "uniad-train",
        *("--dataset", "cifar10", "--normals", "01234", "13579", "--data-root", tmp_path / "data"),
        *("--out", tmp_path / "run", *small(iterations="1", batch_size="16")),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
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
    done = call(*(argument.format(root=trained) for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr


def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(trained: Path) -> None:
    shared = ["--data-root", trained, "--category", "bottle", "cable", "--save-every", "1"]
    shared += small(epochs="12", evaluate_every="1")
    state = trained / "killed" / "all" / "resume" / "state.pt"
    kill_as_soon_as(state, script("uniad-train", *shared, "--out", trained / "killed"))
    assert not (trained / "killed" / "all" / "model").exists()
    for arguments in (["--out", trained / "killed", "--resume"], ["--out", trained / "unbroken"]):
        done = call("uniad-train", *shared, *arguments)
        assert done.returncode == 0, done.stderr
        assert ("resuming after step" in done.stderr) == ("--resume" in arguments)
    killed, unbroken = (
        load_file(trained / name / "all" / "model" / "model.safetensors") for name in ("killed", "unbroken")
    )
    assert all((killed[name] == unbroken[name]).all() for name in unbroken)


def test_two_processes_train_one_model_without_noise_to_the_losses_of_one(trained: Path) -> None:
    shared = ["--data-root", trained, "--category", "bottle", "cable"]
    shared += small(jitter_scale="0", dropout="0", iterations="4")
    losses = {}
    for processes in (1, 2):
        out = trained / f"world{processes}"
        command = script("uniad-train", *shared, "--out", out, processes=processes)
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        with (out / "all" / "metrics.csv").open() as file:
            losses[processes] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses[2]) == 4
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)


def test_importing_the_commands_imports_no_torch() -> None:
    code = "import sys, uniad.cli, uniad.pictures.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert "torch" in sys.modules
    assert torch.__version__
