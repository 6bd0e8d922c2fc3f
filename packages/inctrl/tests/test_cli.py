"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from adcommon.testing.console import call
from adcommon.testing.trees import make_mvtec
from inctrl.cli import default_recipe
from inctrl.lists import scan, write_lists

SMALL = [
    *("--weights", "random", "--shots", "2", "--reference-seeds", "0", "1", "--batch-size", "4"),
    *("--epochs", "2", "--steps-per-epoch", "2", "--batch-order", "corrected", "--device", "cpu"),
]
VISION = [*SMALL, "--backbone", "resnet18", "--layers", "3", "4", "--image-size", "64"]


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
    done = call("inctrl-train", *categories(root), *VISION, "--out", root / "run", "--maps")
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
        *("--out", tmp_path / "e", "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
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
    clip = ["--backbone", tiny_clip, "--layers", "2", "3", "4", "--image-size", "32"]
    done = call(
        "inctrl-train", *categories(root), *SMALL[:-4], *clip, "--device", "cpu", "--out", tmp_path / "run"
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


@pytest.mark.parametrize(
    ("arguments", "recipe"),
    [
        ([], "mvtec"),
        (["--dataset", "visa"], "visa"),
        (["--dataset=elpv"], "own"),
        (["--train_data", "x"], "own"),
        (["--normal_json_path", "a.json"], "mvtec"),
    ],
)
def test_a_command_line_starts_from_the_papers_recipe_or_that_for_own_data(arguments, recipe) -> None:
    assert default_recipe(arguments) == recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inctrl-train", "--data-root", "{root}/nowhere"), "mvtec_anomaly_detection"),
        (("inctrl-train", "--dataset", "mvtec", "--batch-size", "1"), "batch_size is 1"),
        (("inctrl-train", "--dataset", "synthetic"), "what is to be tested"),
        (("inctrl-test",), "what is to be tested"),
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


def test_importing_the_commands_imports_no_torch() -> None:
    code = "import sys, inctrl.cli, inctrl.tools_cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
