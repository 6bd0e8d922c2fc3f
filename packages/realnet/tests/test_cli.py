"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import json
from functools import partial
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from adcommon.testing.commands import flags, read_rows, read_table, refused, succeed
from adcommon.testing.processes import Started, run_together
from adcommon.testing.runs import killed_and_resumed, one_of_two_stopped
from adcommon.testing.trees import make_folder, make_mvtec

SMALL = {
    "--anomaly-source": "textures",
    "--backbone": "resnet18.tv_in1k",
    "--structure": "layer1:64@4 layer2:64@8",
    "--weights": "random",
    "--image-size": "64",
    "--res-blocks": "1",
    "--channel-mult": "1 2",
    "--rrs-modes": "max:16 mean:16",
    "--perlin-scale": "3",
    "--afs-batches": "2",
    "--batch-size": "4",
    "--epochs": "2",
    "--evaluate-every": "1",
    "--device": "cpu",
}
"""Flags of a training that takes a second."""

small = partial(flags, SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short `realnet-train` on two drawn categories."""
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle", "cable"))
    succeed(
        "realnet-train",
        *("--data-root", folder, "--class_name", "bottle", "cable", "--out", folder / "run", "--maps"),
        *small(calibration_share="0.2", false_alarm_rate="0.5"),
    )
    return folder


def test_a_model_per_category_leaves_metrics_tables_and_pictures(trained: Path) -> None:
    run = trained / "run"
    rows = read_rows(run)
    assert [(row["category"], row["protocol"], row["selection"]) for row in rows[:4]] == [
        ("bottle", "standard", "last"),
        ("bottle", "realnet", "last"),
        ("bottle", "standard", "best-on-test"),
        ("bottle", "realnet", "best-on-test"),
    ]
    assert {row["category"] for row in rows[4:]} == {"cable"}
    assert set(rows[1]["extra"]) == {"pro"}
    assert "an oracle" in (run / "results.md").read_text()
    assert "RANDOM" in (run / "results.md").read_text()
    table = read_table(run / "cable" / "metrics.csv")
    assert [int(entry["step"]) for entry in table] == [1, 2, 3, 4]
    for folder in ("model", "model-best"):
        names = sorted(path.name for path in (run / "bottle" / folder).iterdir())
        assert names == [".adcommon", "README.md", "config.json", "model.safetensors"]
    assert len(list((run / "bottle" / "maps").glob("*/*.jpg"))) == 6


def test_evaluate_repeats_the_numbers_and_predict_decides_by_the_threshold(trained: Path, tmp_path) -> None:
    model = trained / "run" / "bottle" / "model"
    place = ("--data-root", trained, "--device", "cpu", "--batch-size", "4")
    succeed(
        "realnet-evaluate",
        *("--model", model, *place, "--out", tmp_path / "again", "--maps", "--vis", "triptych"),
    )
    before = read_rows(trained / "run")[:2]
    after = read_rows(tmp_path / "again")
    for old, new in zip(before, after, strict=True):
        assert new["category"] == "bottle"
        assert new["image_auroc"] == pytest.approx(old["image_auroc"], abs=1e-6)
        assert new["pixel_auroc"] == pytest.approx(old["pixel_auroc"], abs=1e-3)
        assert new["extra"].keys() == old["extra"].keys()
    assert len(list((tmp_path / "again" / "maps").glob("spot_*.png"))) == 3
    images = make_folder(tmp_path / "images", good=2)
    succeed("realnet-predict", images, "--model", model, "--out", tmp_path / "scored", "--device", "cpu")
    scored = read_table(tmp_path / "scored" / "predictions.csv")
    assert {row["decision"] for row in scored} <= {"normal", "anomalous"}


def test_the_authors_layout_goes_out_and_into_every_command(trained: Path, tmp_path: Path) -> None:
    model, file = trained / "run" / "bottle" / "model", tmp_path / "ckpt_best.pth.tar"
    place = ("--data-root", trained, "--category", "bottle", "--device", "cpu", "--batch-size", "4")
    succeed("realnet-evaluate", "--model", model, *place, "--out", tmp_path / "a", "--save-official", file)
    images = make_folder(tmp_path / "images", good=1, size=256)
    succeed("realnet-predict", images, "--checkpoint", file, "--out", tmp_path / "c", "--device", "cpu")
    succeed("realnet-evaluate", "--checkpoint", file, *place, "--out", tmp_path / "b")
    rows = read_rows(tmp_path / "b")
    assert [row["protocol"] for row in rows] == ["standard", "realnet"]
    assert {row["weights"] for row in rows} == {str(file)}


def test_own_images_need_no_lists_no_table_and_no_download(tmp_path: Path) -> None:
    for name in ("lid", "cap"):
        make_folder(tmp_path / "mine" / name, good=10, defects=("dent",), masks=True)
    flags = small(iterations="1")
    del flags[flags.index("--anomaly-source") :][:2]
    flags = [word for word in flags if word not in ("--anomaly-source", "textures")]
    succeed("realnet-train", "--data", tmp_path / "mine", "--out", tmp_path / "run", *flags)
    rows = read_rows(tmp_path / "run")
    assert [(row["category"], row["protocol"]) for row in rows] == [("cap", "standard"), ("lid", "standard")]
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (recipe["dataset"], recipe["anomaly_source"]) == ("folder", "auto")
    succeed("realnet-train", "--config", tmp_path / "run" / "recipe.yaml", "--out", tmp_path / "again")
    again = read_rows(tmp_path / "again")
    assert [row["image_auroc"] for row in again] == [row["image_auroc"] for row in rows]


def test_lists_go_out_and_train(trained: Path, tmp_path: Path) -> None:
    succeed("realnet-metadata", "--data-root", trained, "--category", "bottle", "cable", "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        *("test_bottle.json", "test_cable.json", "test_uni.json"),
        *("train_bottle.json", "train_cable.json", "train_uni.json"),
    ]
    lines = [json.loads(line) for line in (tmp_path / "test_bottle.json").read_text().splitlines()]
    assert {line["clsname"] for line in lines} == {"bottle"}
    succeed(
        "realnet-train",
        *("--meta-train", tmp_path / "train_uni.json", "--meta-test", tmp_path / "test_uni.json"),
        *("--image-dir", trained / "mvtec", "--out", tmp_path / "run", "--class-name", "cable"),
        *small(iterations="1"),
    )
    assert [path.parent.name for path in (tmp_path / "run").glob("*/model")] == ["cable"]


def test_the_authors_configuration_file_trains_the_first_category(trained: Path, tmp_path: Path) -> None:
    content = {
        "random_seed": 3,
        "dataset": {
            "type": "mvtec",
            "image_reader": {"kwargs": {"image_dir": str(trained / "mvtec")}},
            "train": {"anomaly_types": {"normal": 0.5, "sdas": 0.5}, "sdas_dir": str(tmp_path / "s" / "{}")},
            "input_size": [64, 64],
            "batch_size": 4,
        },
        "trainer": {"max_epoch": 1, "optimizer": {"type": "Adam", "kwargs": {"lr": 0.001}}},
        "structure": [{"name": "block1", "stride": 4, "layers": [{"idx": "layer1", "planes": 64}]}],
        "net": [
            {"name": "backbone", "kwargs": {"model": "resnet18"}},
            {"name": "rrs", "kwargs": {"modes": ["max"], "mode_numbers": [16]}},
        ],
    }
    (tmp_path / "realnet.yaml").write_text(yaml.safe_dump(content))
    flags = ("--config", tmp_path / "realnet.yaml", "--out", tmp_path / "run", "--weights", "random")
    said = refused("realnet-train", *flags, "--device", "cpu")
    assert "no diffusion samples" in said
    succeed("realnet-train", *flags, "--device", "cpu", "--anomaly-source", "textures", "--force")
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    wanted = {"seed": 3, "lr": 0.001, "epochs": 1, "backbone": "resnet18.tv_in1k", "protocol": "realnet"}
    assert {name: recipe[name] for name in wanted} == wanted
    assert [path.parent.name for path in (tmp_path / "run").glob("*/model")] == ["bottle"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--data-root", "{root}/nowhere"), "mvtec_anomaly_detection"),
        (("train", "--data-root", "{root}", "--weights", "random"), "--sdas-dir names no folder"),
        (("train", "--image-size", "100", "--data-root", "{root}"), "multiple of 128"),
        (("train", "--data-root", "{root}", "--category", "botle"), "did you mean 'bottle'"),
        (("train", "--data-root", "{root}", "--structure", "layer1"), "such as layer1:256@4"),
        (("evaluate", "--model", "{root}/nowhere"), "no model at"),
        (("predict", "{root}", "--model", "{root}/nowhere"), "no model at"),
        (("metadata", "--layout", "mvtek"), "did you mean 'mvtec'"),
        (("train", "--meta-train", "{root}/train.json"), "go together"),
    ],
)
def test_mistakes_end_with_a_message_and_exit_code_2(trained: Path, tmp_path, arguments, message) -> None:
    command, *rest = (argument.format(root=trained) for argument in arguments)
    out = ("--out", tmp_path / "run") if command == "train" else ()
    said = refused(f"realnet-{command}", *rest, *out)
    assert message in said


def test_a_killed_run_resumes_to_the_weights_of_an_unbroken_one(trained: Path, tmp_path: Path) -> None:
    words = ["--data-root", trained, "--category", "bottle", *small()]
    killed_and_resumed("realnet-train", words, tmp_path, "bottle")


def test_two_processes_choose_the_channels_together_and_train_one_model(
    trained: Path, tmp_path: Path
) -> None:
    words = ["--data-root", trained, "--category", "bottle", *small(iterations="2", afs_batches="1")]
    for done in run_together("realnet-train", *words, "--out", tmp_path / "run"):
        assert done.returncode == 0, done.stderr
    assert len(read_table(tmp_path / "run" / "bottle" / "metrics.csv")) == 2
    kept = load_file(tmp_path / "run" / "bottle" / "model" / "model.safetensors")["afs.indexes.block2_layer2"]
    assert len(set(kept.tolist())) == 64
    assert kept.tolist() == sorted(kept.tolist())


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(trained: Path, tmp_path: Path) -> None:
    words = ["--data-root", trained, "--category", "bottle"]
    words += small(iterations="22", evaluate_every="20", batch_size="2")  # it asks every 20 steps
    one_of_two_stopped("realnet-train", words, tmp_path, "bottle")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_networks_have_the_same_losses(trained: Path, tmp_path: Path) -> None:
    """In a process of its own: the shape checks of the tests cannot be compiled in any bearable time."""
    words = ["--data-root", trained, "--category", "bottle", *small(iterations="3")]
    succeed("realnet-train", *words, "--out", tmp_path / "plain")
    compiled = Started("realnet-train", *words, "--out", tmp_path / "compiled", "--compile").wait(600)
    assert compiled.returncode == 0, compiled.stderr
    ours, theirs = (
        [float(row["loss"]) for row in read_table(tmp_path / name / "bottle" / "metrics.csv")]
        for name in ("compiled", "plain")
    )
    assert ours == pytest.approx(theirs, rel=1e-3)
