"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW

from adcommon.io.schema import build
from adcommon.testing.commands import flags, read_rows, read_table, refused, succeed
from adcommon.testing.processes import run_together
from adcommon.testing.runs import killed_and_resumed, one_of_two_stopped
from adcommon.testing.trees import make_mvtec
from adcommon.training.devices import set_seed
from inctrl.backbone import feature_store, make_backbone, make_preprocess
from inctrl.batches import training_batches
from inctrl.compat.lists import scan, write_lists
from inctrl.data import ReferenceDraw, query_indices, training_records
from inctrl.losses import training_loss
from inctrl.model import InCTRL, trainable
from inctrl.optimiser import forward_batch
from inctrl.recipes import Recipe
from inctrl.settings import TrainSettings

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
VISION = {"backbone": "test_efficientnet", "layers": "3 4", "image_size": "64"}
CLIP = {"layers": "2 3 4", "image_size": "32"}


small = partial(flags, SMALL)
"""Flags of a training that takes a second."""


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
    succeed("inctrl-train", *categories(root), *small(**VISION), "--out", root / "run", "--maps")
    return root / "run"


def test_a_training_leaves_a_model_a_table_over_draws_and_pictures(run: Path) -> None:
    rows = read_rows(run)
    assert [(row["category"], row["seed"], row["shots"]) for row in rows] == [
        ("candle", 0, 2),
        ("candle", 1, 2),
    ]
    assert "| visa | candle | 2 | 2 |" in (run / "summary.md").read_text()
    assert len(list((run / "all" / "maps").glob("*/*/*/*.jpg"))) == 6
    assert sorted(path.name for path in (run / "all" / "model").iterdir()) == [
        *(".adcommon", "README.md", "config.json", "model.safetensors")
    ]


def test_without_data_to_learn_from_the_ways_out_are_named(root: Path, tmp_path: Path) -> None:
    said = refused("inctrl-train", "--data", root, "--data-root", tmp_path)
    assert "--train-data DIR" in said
    assert "--dataset synthetic" in said


def test_a_category_is_enough_to_test(run: Path, root: Path, tmp_path: Path) -> None:
    done = succeed(
        "inctrl-test",
        *("--category", "candle", "--data-root", root, "--model", run / "all" / "model", "--shots", "2"),
        *("--reference-seeds", "0", "1", "--device", "cpu"),
        *("--out", tmp_path / "e", "--output", tmp_path / "s.csv"),
    )
    assert "no text tower" in done.stderr
    before, after = read_rows(run), read_rows(tmp_path / "e")
    assert [row["image_auroc"] for row in after] == pytest.approx([row["image_auroc"] for row in before])
    assert len(read_table(tmp_path / "s.csv")) == 12


def test_the_general_command_gives_the_same_rows(run: Path, root: Path, tmp_path: Path) -> None:
    words = (
        "--model",
        run / "all" / "model",
        "--category",
        "candle",
        "--data-root",
        root,
        "--device",
        "cpu",
    )
    succeed("inctrl-evaluate", *words, "--out", tmp_path / "a")
    succeed("ad", "evaluate", *words, "--out", tmp_path / "b", "--maps")
    assert read_rows(tmp_path / "a") == read_rows(tmp_path / "b")
    assert (tmp_path / "a" / "summary.md").read_text() == (tmp_path / "b" / "summary.md").read_text()
    assert len(read_rows(tmp_path / "b")) == 3
    succeed("ad", "evaluate", "--model", run / "all" / "model", *words[4:], "--out", tmp_path / "c")
    assert read_rows(tmp_path / "c") == read_rows(tmp_path / "a")
    assert len(list((tmp_path / "b" / "maps").glob("*/*/*/*.jpg"))) == 6


def test_the_authors_options_test_by_lists_and_few_shot_files(run: Path, root: Path, tmp_path: Path) -> None:
    folder = root / "VisA_pytorch" / "1cls" / "candle"
    write_lists("val", tmp_path, "candle", scan(folder, "candle").split)
    flags = ("--category", "candle", "--count", "3", "--out", tmp_path, "--image-size", "64")
    succeed("inctrl-few-shot", folder / "train" / "good", *flags)
    done = succeed(
        "inctrl-test",
        *("--val_normal_json_path", tmp_path / "candle_val_normal.json"),
        *("--val_outlier_json_path", tmp_path / "candle_val_outlier.json"),
        *("--category", "candle", "--few_shot_dir", tmp_path, "--checkpoint", run / "all" / "model"),
        *("--device", "cpu", "--dataset_dir", "./", "TEST.BATCH_SIZE", "4", "OUTPUT_DIR", tmp_path / "e"),
    )
    assert "--dataset_dir has no effect" in done.stderr
    (row,) = read_rows(tmp_path / "e")
    assert (row["dataset"], row["shots"]) == ("lists", 3)
    assert row["references"] == str(tmp_path)


def test_any_images_are_scored_given_some_normal_ones(run: Path, root: Path, tmp_path: Path) -> None:
    folder = root / "VisA_pytorch" / "1cls" / "candle"
    common = (folder / "test", "--model", run / "all" / "model", "--out", tmp_path, "--device", "cpu")
    succeed("inctrl-predict", *common, "--references", folder / "train" / "good")
    assert len([row for row in read_table(tmp_path / "predictions.csv") if row["score"]]) == 6
    said = refused("inctrl-predict", *common, "--force")
    assert "--references DIR" in said


def test_with_clip_the_same_commands_and_the_authors_layout(
    root: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    succeed(
        "inctrl-train", *categories(root), *small(**CLIP), "--backbone", tiny_clip, "--out", tmp_path / "run"
    )
    test = ("--category", "candle", "--data-root", root, "--shots", "2", "--device", "cpu", "--out")
    succeed("inctrl-test", *test, tmp_path / "a", "--model", tmp_path / "run" / "all" / "model",
                "--save-official", tmp_path / "checkpoint_2.pyth")  # fmt: skip
    ours = read_rows(tmp_path / "a")
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
    succeed("inctrl-test", *test, tmp_path / "b", *file, "--reference-seeds", "0")
    (theirs,) = read_rows(tmp_path / "b")
    assert theirs["image_auroc"] == ours[0]["image_auroc"]


@pytest.mark.slow
def test_the_papers_clip_end_to_end_with_seeded_weights(root: Path, tmp_path: Path) -> None:
    words = ("--weights", "random", "--shots", "2", "--epochs", "1", "--steps-per-epoch", "2")
    words += ("--device", "cpu", "--batch-size", "4", "--out", tmp_path / "run")
    succeed("inctrl-train", *categories(root), *words)
    test = ("--category", "candle", "--data-root", root, "--shots", "2", "--device", "cpu", "--out")
    model, file = tmp_path / "run" / "all" / "model", tmp_path / "checkpoint_1.pyth"
    succeed("inctrl-test", *test, tmp_path / "a", "--model", model, "--save-official", file)
    succeed("inctrl-test", *test, tmp_path / "b", "--checkpoint", file)
    ours, theirs = ([row["image_auroc"] for row in read_rows(tmp_path / name)] for name in "ab")
    assert ours == theirs


def test_a_killed_run_resumes_to_the_same_bits(root: Path, tiny_clip: Path, tmp_path: Path) -> None:
    words = [*categories(root), "--backbone", tiny_clip, *small(**CLIP, epochs="3", evaluate_every="1")]
    killed_and_resumed("inctrl-train", words, tmp_path, "all")
    assert len(list((tmp_path / "parts" / "all" / "epochs").iterdir())) == 3


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both(root: Path, tiny_clip: Path, tmp_path: Path) -> None:
    words = [*categories(root), "--backbone", tiny_clip, *small(**CLIP, epochs="1", steps_per_epoch="6")]
    one_of_two_stopped("inctrl-train", words, tmp_path, "all")


def test_two_processes_learn_from_a_half_of_each_batch_each(root: Path, tmp_path: Path) -> None:
    words = [*categories(root), *small(**VISION, epochs="1", steps_per_epoch="3", batch_size="8")]
    both = run_together("inctrl-train", *words, "--out", tmp_path / "run")
    assert [done.returncode for done in both] == [0, 0], both[0].stderr
    assert "processes 2" in both[0].stderr
    losses = [float(row["loss"]) for row in read_table(tmp_path / "run" / "all" / "metrics.csv")]

    # The same in one process: the mean loss of both halves, each with batch norm's statistics of its own.
    config = json.loads((tmp_path / "run" / "all" / "model" / "config.json").read_text())
    recipe = build(Recipe, config["recipe"], "config.json")
    records = training_records(recipe, root, ("bottle", "cable"))
    set_seed(recipe.seed)
    backbone = make_backbone(recipe, "random")
    model = InCTRL(backbone.tower.embed, backbone.patches).train()
    optimiser = AdamW(trainable(model), lr=recipe.lr, weight_decay=recipe.weight_decay)
    store = feature_store(backbone.tower, records, make_preprocess(recipe), TrainSettings(cache=False))
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
    said = refused(*(argument.format(root=root) for argument in arguments))
    assert message in said
