"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from adcommon.testing import commands
from adcommon.testing.commands import Done, flags, read_table
from adcommon.testing.processes import run_together
from adcommon.testing.runs import assert_same_bits, killed_and_resumed, one_of_two_stopped
from adcommon.testing.trees import make_mvtec

TINY = {
    "--recipe": "tiny",
    "--image-size": "16",
    "--batch-size": "4",
    "--chunk-size": "4",
    "--iterations": "3",
    "--device": "cpu",
}
UNET = {"--accumulate": "1", "--validation-batches": "1", "--validation-respacing": "ddim2"}


tiny = partial(flags, TINY)
"""Flags of a classifier's training that takes a second."""
tiny_unet = partial(flags, TINY | UNET)
"""The same of a diffusion model."""


def succeed(command: str, *arguments: str | Path) -> Done:
    return commands.succeed(f"realnet-{command}", *arguments)


def refused(command: str, *arguments: str | Path) -> str:
    return commands.refused(f"realnet-{command}", *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two drawn categories, a diffusion model and a classifier of both."""
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle", "cable"), train=6)
    place = ("--data-root", folder, "--class_name", "bottle", "cable")
    succeed("train-diffusion", *place, *tiny_unet(), "--out", folder / "diffusion", "--save_official",
                folder / "unet.pth.tar")  # fmt: skip
    succeed("train-classifier", *place, *tiny(), "--out", folder / "classifier")
    return folder


def networks(folder: Path) -> tuple[str | Path, ...]:
    return (
        *("--diffusion", folder / "diffusion", "--classifier", folder / "classifier"),
        *("--respacing", "ddim2", "--batch-size", "2", "--device", "cpu"),
    )


def test_the_trainings_leave_models_that_know_their_categories(trained: Path) -> None:
    for stage, method in (("diffusion", "realnet-diffusion"), ("classifier", "realnet-classifier")):
        config = json.loads((trained / stage / stage / "model" / "config.json").read_text())
        assert (config["method"], config["categories"]) == (method, ["bottle", "cable"])
        assert (trained / stage / "recipe.yaml").is_file()
        assert not (trained / stage / stage / "resume").exists()
    assert list((trained / "diffusion" / "diffusion" / "maps").glob("1/*/good/*.png"))


def test_samples_are_drawn_guided_checked_and_filled_up(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "sdas"
    done = succeed("sample", *networks(trained), "--sample-number", "3", "--out", out)
    assert "realnet-train --sdas-dir" in done.stdout
    first = {path: path.read_bytes() for path in out.glob("*/*.jpg")}
    assert {str(path.relative_to(out)) for path in first} == {
        f"{category}/rank0_{number}.jpg" for category in ("bottle", "cable") for number in range(4)
    }
    assert {row["guided"] for row in read_table(out / "samples.csv")} == {"1"}
    assert "--resume" in refused("sample", *networks(trained), "--sample-number", "3", "--out", out)
    more = (*networks(trained), "--sample-number", "5", "--out", out, "--resume")
    assert "seed was 100, is 1" in refused("sample", *more, "--seed", "1")
    done = succeed("sample", *more)
    assert "4 new images" in done.stdout
    assert all(path.read_bytes() == content for path, content in first.items())
    flags = ("--no-classifier", "--strength", "0", "--force", "--class-name", "cable", "--sample-number", "2")
    succeed("sample", *networks(trained), *flags, "--out", out)
    assert [str(path.relative_to(out)) for path in sorted(out.glob("*/*.jpg"))] == [
        "cable/rank0_0.jpg",
        "cable/rank0_1.jpg",
    ]
    look = ("--check", "--data-root", trained, "--out", tmp_path / "look")
    done = succeed("sample", *networks(trained), *look)
    assert "bottle: mean square error of rebuilt images" in done.stdout
    assert list((tmp_path / "look" / "check").glob("0/*/good/*.png"))


def test_an_authors_checkpoint_draws_and_starts_a_training(trained: Path, tmp_path: Path) -> None:
    # The drawn dataset has two of MVTec's categories, so the file fits no dataset of two but its own model.
    said = refused("sample", "--recipe", "tiny", "--diffusion", trained / "unet.pth.tar", "--device", "cpu")
    assert "2 classes, there are 15 categories" in said
    flags = ("--dataset", "elpv", "--no-classifier", "--respacing", "ddim2", "--batch-size", "2")
    succeed(
        "sample",
        *("--recipe", "tiny", "--diffusion", trained / "unet.pth.tar", "--device", "cpu", *flags),
        *("--sample-number", "2", "--category", "all", "--out", tmp_path / "drawn"),
    )
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir() if path.is_dir()) == ["mono", "poly"]
    done = succeed(
        "train-diffusion",
        *("--data-root", trained, "--category", "bottle", *tiny_unet(iterations="1")),
        *("--weights", trained / "unet.pth.tar", "--out", tmp_path / "tuned"),
    )
    assert "left at its random start: label_emb.weight is (2, 128), not (1, 128)" in done.stderr
    succeed("sample", "--diffusion", tmp_path / "tuned", *networks(trained)[4:], "--sample-number", "2",
                "--out", tmp_path / "one")  # fmt: skip  # one category needs no classifier
    assert len(list((tmp_path / "one" / "bottle").iterdir())) == 2


def test_own_images_and_a_recipe_file_of_an_earlier_run(trained: Path, tmp_path: Path) -> None:
    succeed("train-diffusion", "--data", trained / "mvtec", *tiny_unet(), "--out", tmp_path / "own")
    recipe = yaml.safe_load((tmp_path / "own" / "recipe.yaml").read_text())
    assert (recipe["dataset"], recipe["image_size"]) == ("folder", 16)
    succeed("train-diffusion", "--config", tmp_path / "own" / "recipe.yaml", "--out", tmp_path / "again")
    assert_same_bits(tmp_path / "own", tmp_path / "again")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train-diffusion", "--data-root", "{root}/nowhere"), "mvtec_anomaly_detection"),
        (("train-diffusion", "--data-root", "{root}", "--category", "bottle"), "256x256_diffusion.pt"),
        (("train-diffusion", "--data-root", "{root}", "--category", "botle"), "did you mean 'bottle'"),
        (("train-diffusion", "--recipe", "small"), "unknown recipe"),
        (("train-diffusion", "--recipe", "tiny", "--maps"), "--maps has no effect here"),
        (("train-diffusion", *tiny(image_size="30")), "multiple of 4"),
        (
            ("train-classifier", *tiny(), "--data-root", "{root}", "--category", "bottle"),
            "nothing to classify",
        ),
        (("sample", "--diffusion", "{root}/nowhere"), "realnet-train-diffusion"),
        (("sample", "--diffusion", "{root}/diffusion"), "realnet-train-classifier"),
        (("sample", "--diffusion", "{root}/diffusion", "--category", "botle"), "did you mean 'bottle'"),
        (("sample", "--diffusion", "{root}/classifier"), "no diffusion model"),
        (("sample", "--strength", "2", "1"), "strength is 2.0 1.0"),
        (
            ("sample", "--respacing", "ddim1", "--diffusion", "{root}/diffusion", "--no-classifier"),
            "no stride",
        ),
    ],
)
def test_mistakes_end_with_a_message_and_exit_code_2(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AD_WEIGHTS", raising=False)
    said = refused(*(argument.format(root=trained) for argument in arguments))
    assert message in said
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_weights_of_an_unbroken_one(trained: Path, tmp_path: Path) -> None:
    words = ["--data-root", trained, "--category", "bottle", "cable"]
    words += tiny_unet(accumulate="2", iterations="6")
    killed_and_resumed("realnet-train-diffusion", words, tmp_path, "diffusion")


def test_two_processes_share_batches_validation_and_samples(trained: Path, tmp_path: Path) -> None:
    words = ("--data-root", trained, "--category", "bottle", "cable", *tiny_unet(iterations="2"))
    sampling = (*networks(trained), "--no-classifier", "--sample-number", "4")
    for done in (
        *run_together("realnet-train-diffusion", *words, "--out", tmp_path / "two"),
        *run_together("realnet-sample", *sampling, "--out", tmp_path / "shared"),
    ):
        assert done.returncode == 0, done.stderr
    rows = read_table(tmp_path / "two" / "diffusion" / "metrics.csv")
    assert [row["step"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["rebuild_mse"]) > 0
    succeed("sample", *sampling, "--out", tmp_path / "alone")
    files = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").glob("*/*.jpg"))
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "shared" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()


@pytest.mark.slow
def test_torchrun_starts_a_training_in_two_processes(trained: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--no-python", Path(sys.executable).with_name("realnet-train-classifier")),
        *("--data-root", trained, "--category", "bottle", "cable", *tiny(), "--out", tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "processes 2" in done.stderr
    assert (tmp_path / "run" / "classifier" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("network", "small"),
    [
        pytest.param("diffusion", tiny_unet, id="diffusion", marks=pytest.mark.slow),
        pytest.param("classifier", tiny, id="classifier", marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_one_of_two_processes_stops_both(
    trained: Path, tmp_path: Path, network: str, small: Callable[..., list[str]]
) -> None:
    words = ["--data-root", trained, "--category", "bottle", "cable"]
    words += small(iterations="22", evaluate_every="20", batch_size="2")  # the classifier asks every 20 steps
    one_of_two_stopped(f"realnet-train-{network}", words, tmp_path, network)
