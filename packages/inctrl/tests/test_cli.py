"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
import torch

from adcommon.testing.console import call, kill_as_soon_as, script
from adcommon.testing.trees import make_mvtec
from adcommon.training.devices import set_seed
from inctrl.backbone import feature_store, make_backbone, make_preprocess
from inctrl.batches import training_batches
from inctrl.compat.lists import scan, write_lists
from inctrl.data import ReferenceDraw, query_indices, training_records
from inctrl.losses import training_loss
from inctrl.model import InCTRL, trainable
from inctrl.optimiser import forward_batch, make_optimiser
from inctrl.recipes import Recipe

SMALL = {
    "--weights": "random",
    "--shots": "2",
    "--reference-seeds": "0 1",
    "--batch-size": "4",
    "--epochs": "2",
    "--steps-per-epoch": "2",
    "--batch-order": "corrected",
    "--device": "cpu",
}
VISION = {"backbone": "resnet18", "layers": "3 4", "image_size": "64"}
CLIP = {"layers": "2 3 4", "image_size": "32"}


def small(**changed: str) -> list[str]:
    """Flags of a training that takes a second; `changed` by name."""
    flags = SMALL | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return [word for name, value in flags.items() for word in (name, *value.split())]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_mvtec(folder / "mvtec_anomaly_detection", categories=("bottle", "cable"), train=4)
    make_mvtec(folder / "VisA_pytorch" / "1cls", categories=("candle",), train=4, seed=3)
    return folder


def categories(root: Path) -> list[str | Path]:
    return ["--data-root", root, "--train-category", "bottle", "cable", "--test-datasets", "visa/candle"]


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    """The folder of a short vision-only training."""
    done = call("inctrl-train", *categories(root), *small(**VISION), "--out", root / "run", "--maps")
    assert done.returncode == 0, done.stderr
    return root / "run"


def test_a_training_leaves_a_model_a_table_over_draws_and_pictures(run: Path) -> None:
    rows = json.loads((run / "results.json").read_text())
    assert [(row["category"], row["seed"], row["shots"]) for row in rows] == [
        ("candle", 0, 2),
        ("candle", 1, 2),
    ]
    assert "| visa | candle | 2 | 2 |" in (run / "summary.md").read_text()
    assert len(list((run / "2-shot" / "maps").rglob("*.png"))) == 6
    assert sorted(path.name for path in (run / "2-shot" / "model").iterdir()) == [
        *("README.md", "config.json", "model.safetensors")
    ]


def test_a_category_is_enough_to_test(run: Path, root: Path, tmp_path: Path) -> None:
    done = call(
        "inctrl-test",
        *("--category", "candle", "--data-root", root, "--model", run / "2-shot" / "model", "--shots", "2"),
        *(
            "--reference-seeds",
            "0",
            "1",
            "--out",
            tmp_path / "e",
            "--output",
            tmp_path / "s.csv",
            "--device",
            "cpu",
        ),
    )
    assert done.returncode == 0, done.stderr
    assert "no text tower" in done.stderr
    before, after = (json.loads((folder / "results.json").read_text()) for folder in (run, tmp_path / "e"))
    assert [row["image_auroc"] for row in after] == pytest.approx([row["image_auroc"] for row in before])
    with (tmp_path / "s.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12


def test_the_authors_options_test_by_lists_and_few_shot_files(run: Path, root: Path, tmp_path: Path) -> None:
    folder = root / "VisA_pytorch" / "1cls" / "candle"
    write_lists("val", tmp_path, "candle", scan(folder, "candle").split)
    flags = ("--category", "candle", "--count", "3", "--out", tmp_path, "--image-size", "64")
    done = call("inctrl-few-shot", folder / "train" / "good", *flags)
    assert done.returncode == 0, done.stderr
    done = call(
        "inctrl-test",
        *("--val_normal_json_path", tmp_path / "candle_val_normal.json"),
        *("--val_outlier_json_path", tmp_path / "candle_val_outlier.json"),
        *("--category", "candle", "--few_shot_dir", tmp_path, "--checkpoint", run / "2-shot" / "model"),
        *("--device", "cpu", "--dataset_dir", "./", "TEST.BATCH_SIZE", "4", "OUTPUT_DIR", tmp_path / "e"),
    )
    assert done.returncode == 0, done.stderr
    assert "--dataset_dir has no effect" in done.stderr
    (row,) = json.loads((tmp_path / "e" / "results.json").read_text())
    assert (row["dataset"], row["shots"]) == ("lists", 3)
    assert row["references"] == str(tmp_path)


def test_any_images_are_scored_given_some_normal_ones(run: Path, root: Path, tmp_path: Path) -> None:
    folder = root / "VisA_pytorch" / "1cls" / "candle"
    common = (folder / "test", "--model", run / "2-shot" / "model", "--out", tmp_path, "--device", "cpu")
    done = call("inctrl-predict", *common, "--references", folder / "train" / "good")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions.csv").open() as file:
        assert len([row for row in csv.DictReader(file) if row["score"]]) == 6
    done = call("inctrl-predict", *common)
    assert done.returncode == 2
    assert "--references DIR" in done.stderr


def test_with_clip_the_same_commands_and_the_authors_layout(
    root: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    done = call(
        "inctrl-train", *categories(root), *small(**CLIP), "--backbone", tiny_clip, "--out", tmp_path / "run"
    )
    assert done.returncode == 0, done.stderr
    test = ("--category", "candle", "--data-root", root, "--shots", "2", "--device", "cpu", "--out")
    done = call("inctrl-test", *test, tmp_path / "a", "--model", tmp_path / "run" / "2-shot" / "model",
                "--save-official", tmp_path / "checkpoint_2.pyth")  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours = json.loads((tmp_path / "a" / "results.json").read_text())
    assert all(row["text"] for row in ours)
    file = (
        "--checkpoint",
        tmp_path / "checkpoint_2.pyth",
        "--backbone",
        tiny_clip,
        "--layers",
        "2",
        "3",
        "4",
    )
    done = call("inctrl-test", *test, tmp_path / "b", *file, "--reference-seeds", "0")
    assert done.returncode == 0, done.stderr
    (theirs,) = json.loads((tmp_path / "b" / "results.json").read_text())
    assert theirs["image_auroc"] == ours[0]["image_auroc"]


@pytest.mark.slow
def test_the_papers_clip_end_to_end_with_seeded_weights(root: Path, tmp_path: Path) -> None:
    flags = (
        "--weights",
        "random",
        "--shots",
        "2",
        "--epochs",
        "1",
        "--steps-per-epoch",
        "2",
        "--device",
        "cpu",
    )
    done = call("inctrl-train", *categories(root), *flags, "--batch-size", "4", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    test = ("--category", "candle", "--data-root", root, "--shots", "2", "--device", "cpu", "--out")
    model, file = tmp_path / "run" / "2-shot" / "model", tmp_path / "checkpoint_1.pyth"
    done = call("inctrl-test", *test, tmp_path / "a", "--model", model, "--save-official", file)
    assert done.returncode == 0, done.stderr
    done = call("inctrl-test", *test, tmp_path / "b", "--checkpoint", file)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        [row["image_auroc"] for row in json.loads((tmp_path / name / "results.json").read_text())]
        for name in "ab"
    )
    assert ours == theirs


def test_a_killed_run_resumes_to_the_same_bits(root: Path, tiny_clip: Path, tmp_path: Path) -> None:
    shared = [*categories(root), "--backbone", tiny_clip]
    shared += small(**CLIP, epochs="5", evaluate_every="1", save_every="1")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    kill_as_soon_as(killed / "2-shot/resume/state.pt", script("inctrl-train", *shared, "--out", killed))
    assert not (killed / "2-shot/model").exists()
    for arguments in (["--out", killed, "--resume"], ["--out", whole]):
        done = call("inctrl-train", *shared, *arguments)
        assert done.returncode == 0, done.stderr
        assert ("resuming after step" in done.stderr) == ("--resume" in arguments)
    files = [f"epochs/{epoch:03}/model.safetensors" for epoch in range(1, 6)]
    for file in ("model/model.safetensors", "metrics.csv", *files):
        assert (killed / "2-shot" / file).read_bytes() == (whole / "2-shot" / file).read_bytes(), file


def test_two_processes_learn_from_a_half_of_each_batch_each(root: Path, tmp_path: Path) -> None:
    flags = small(**VISION, epochs="1", steps_per_epoch="3", batch_size="8")
    command = script("inctrl-train", *categories(root), *flags, "--out", tmp_path, processes=2)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "processes 2" in done.stderr
    with (tmp_path / "2-shot" / "metrics.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]

    # The same in one process: the mean loss of both halves, each with batch norm's statistics of its own.
    config = json.loads((tmp_path / "2-shot" / "model" / "config.json").read_text())
    recipe = Recipe.from_json(config["recipe"])
    records = training_records(recipe, root, ("bottle", "cable"))
    set_seed(recipe.seed)
    backbone = make_backbone(recipe, "random")
    model = InCTRL(backbone.tower.embed, backbone.patches).train()
    optimiser = make_optimiser(trainable(model), recipe.lr, recipe.weight_decay)
    store = feature_store(backbone.tower, records, make_preprocess(recipe), cache=False, memory_bytes=2**30)
    references = ReferenceDraw(records, 2, recipe.seed, self_reference=recipe.self_reference)
    device = torch.device("cpu")
    halves = [
        training_batches(
            store,
            query_indices(records, recipe),
            references,
            backbone.text,
            device,
            rank=rank,
            world=2,
        )
        for rank in (0, 1)
    ]
    means = []
    for _ in losses:
        batches = [next(half) for half in halves]
        outputs = [forward_batch(model, half, recipe.batch_order)[0] for half in batches]
        each = [training_loss(out, half.labels) for out, half in zip(outputs, batches, strict=True)]
        mean = torch.stack(each).mean()
        means.append(float(mean.detach()))
        optimiser.zero_grad()
        mean.backward()
        optimiser.step()
    # Adam makes whole steps of gradients that are zero but for rounding; one half's gradients alone: 27 %.
    assert losses == pytest.approx(means, rel=2e-2)
    assert losses[0] == pytest.approx(means[0], rel=1e-5)
    assert len(losses) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inctrl-train", "--data-root", "{root}/nowhere"), "mvtec_anomaly_detection"),
        (("inctrl-train", "--dataset", "mvtec", "--batch-size", "1"), "batch_size is 1"),
        (("inctrl-train", "--dataset", "synthetic"), "what is to be tested"),
        (("inctrl-train", "--train_data", "{root}"), "what is to be tested"),
        (("inctrl-train", "--shot", "2", "SOLVER.BASE_LR", "0.01"), "use --lr"),
        (("inctrl-test",), "what is to be tested"),
        (("inctrl-test", "--category", "candle", "TEST.BATCH_SIZES", "4"), "did you mean 'TEST.BATCH_SIZE'"),
        (("inctrl-test", "--category", "candel"), "did you mean 'candle'"),
        (("inctrl-test", "--category", "candle", "--data-root", "{root}/nowhere"), "VisA not found"),
        (
            ("inctrl-test", "--category", "candle", "--data-root", "{root}", "--model", "{root}/no"),
            "no model at",
        ),
        (("inctrl-test", "--category", "candle", "--val-normal-json-path", "a.json"), "go together"),
        (("inctrl-predict", "{root}", "--model", "{root}/nowhere"), "no model at"),
    ],
)
def test_mistakes_end_with_a_message_and_exit_code_2(root: Path, arguments, message: str) -> None:
    done = call(*(argument.format(root=root) for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr
