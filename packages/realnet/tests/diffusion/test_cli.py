"""The commands end to end on small drawn trees: what they leave behind, and what they say of bad input."""

import csv
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from adcommon.testing import console
from adcommon.testing.console import Done, kill_as_soon_as, script
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


def tiny(**changed: str) -> list[str]:
    """Flags of a classifier's training that takes a second; `changed` by name."""
    return words(TINY, changed)


def tiny_unet(**changed: str) -> list[str]:
    """The same of a diffusion model."""
    return words(TINY | UNET, changed)


def words(flags: dict[str, str], changed: dict[str, str]) -> list[str]:
    flags = flags | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
    return [word for name, value in flags.items() for word in (name, *value.split())]


def call(command: str, *arguments: str | Path) -> Done:
    """Run one of the three commands in this process."""
    return console.call(f"realnet-{command}", *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two drawn categories, a diffusion model and a classifier of both."""
    folder = tmp_path_factory.mktemp("trained")
    make_mvtec(folder / "mvtec", categories=("bottle", "cable"), train=6)
    place = ("--data-root", folder, "--class_name", "bottle", "cable")
    done = call("train-diffusion", *place, *tiny_unet(), "--out", folder / "diffusion", "--save_official",
                folder / "unet.pth.tar")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = call("train-classifier", *place, *tiny(), "--out", folder / "classifier")
    assert done.returncode == 0, done.stderr
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
    done = call("sample", *networks(trained), "--sample-number", "3", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "realnet-train --sdas-dir" in done.stdout
    first = {path: path.read_bytes() for path in out.glob("*/*.jpg")}
    assert {str(path.relative_to(out)) for path in first} == {
        f"{category}/rank0_{number}.jpg" for category in ("bottle", "cable") for number in range(4)
    }
    with (out / "samples.csv").open() as file:
        assert {row["guided"] for row in csv.DictReader(file)} == {"1"}
    done = call("sample", *networks(trained), "--sample-number", "3", "--out", out)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    done = call("sample", *networks(trained), "--sample-number", "5", "--out", out, "--resume", "--seed", "1")
    assert done.returncode == 2
    assert "seed was 100, is 1" in done.stderr
    done = call("sample", *networks(trained), "--sample-number", "5", "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "4 new images" in done.stdout
    assert all(path.read_bytes() == content for path, content in first.items())
    flags = ("--no-classifier", "--strength", "0", "--force", "--class-name", "cable", "--sample-number", "2")
    done = call("sample", *networks(trained), *flags, "--out", out)
    assert done.returncode == 0, done.stderr
    assert [str(path.relative_to(out)) for path in sorted(out.glob("*/*.jpg"))] == [
        "cable/rank0_0.jpg",
        "cable/rank0_1.jpg",
    ]
    done = call("sample", *networks(trained), "--check", "--data-root", trained, "--out", tmp_path / "look")
    assert done.returncode == 0, done.stderr
    assert "bottle: mean square error of rebuilt images" in done.stdout
    assert list((tmp_path / "look" / "check").glob("0/*/good/*.png"))


def test_an_authors_checkpoint_draws_and_starts_a_training(trained: Path, tmp_path: Path) -> None:
    # The drawn dataset has two of MVTec's categories, so the file fits no dataset of two but its own model.
    done = call("sample", "--recipe", "tiny", "--diffusion", trained / "unet.pth.tar", "--device", "cpu")
    assert done.returncode == 2
    assert "2 classes, there are 15 categories" in done.stderr
    flags = ("--dataset", "elpv", "--no-classifier", "--respacing", "ddim2", "--batch-size", "2")
    done = call(
        "sample",
        *("--recipe", "tiny", "--diffusion", trained / "unet.pth.tar", "--device", "cpu", *flags),
        *("--sample-number", "2", "--category", "all", "--out", tmp_path / "drawn"),
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir() if path.is_dir()) == ["mono", "poly"]
    done = call(
        "train-diffusion",
        *("--data-root", trained, "--category", "bottle", *tiny_unet(iterations="1")),
        *("--weights", trained / "unet.pth.tar", "--out", tmp_path / "tuned"),
    )
    assert done.returncode == 0, done.stderr
    assert "left at its random start: label_emb.weight is (2, 128), not (1, 128)" in done.stderr
    done = call("sample", "--diffusion", tmp_path / "tuned", *networks(trained)[4:], "--sample-number", "2",
                "--out", tmp_path / "one")  # fmt: skip
    assert done.returncode == 0, done.stderr  # one category needs no classifier
    assert len(list((tmp_path / "one" / "bottle").iterdir())) == 2


def test_own_images_and_a_recipe_file_of_an_earlier_run(trained: Path, tmp_path: Path) -> None:
    done = call("train-diffusion", "--data", trained / "mvtec", *tiny_unet(), "--out", tmp_path / "own")
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((tmp_path / "own" / "recipe.yaml").read_text())
    assert (recipe["dataset"], recipe["image_size"]) == ("folder", 16)
    done = call("train-diffusion", "--config", tmp_path / "own" / "recipe.yaml", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    first, second = (
        load_file(tmp_path / name / "diffusion" / "model" / "model.safetensors") for name in ("own", "again")
    )
    assert all((first[name] == second[name]).all() for name in first)


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
    done = call(*(argument.format(root=trained) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_killed_training_resumes_to_the_weights_of_an_unbroken_one(trained: Path, tmp_path: Path) -> None:
    flags = (
        "--data-root",
        trained,
        "--category",
        "bottle",
        "cable",
        *tiny_unet(accumulate="2", iterations="10"),
    )
    killed = script("realnet-train-diffusion", *flags, "--save-every", "1", "--out", tmp_path / "killed")
    kill_as_soon_as(tmp_path / "killed" / "diffusion" / "resume" / "state.pt", killed)
    assert not (tmp_path / "killed" / "diffusion" / "model").exists()
    resumed = (*flags, "--save-every", "1", "--resume", "--out", tmp_path / "killed")
    for arguments in (resumed, (*flags, "--out", tmp_path / "unbroken")):
        done = call("train-diffusion", *arguments)
        assert done.returncode == 0, done.stderr
    killed, unbroken = (
        load_file(tmp_path / name / "diffusion" / "model" / "model.safetensors")
        for name in ("killed", "unbroken")
    )
    assert all((killed[name] == unbroken[name]).all() for name in unbroken)


def test_two_processes_share_batches_validation_and_samples(trained: Path, tmp_path: Path) -> None:
    flags = ("--data-root", trained, "--category", "bottle", "cable", *tiny_unet(iterations="2"))
    sampling = (*networks(trained), "--no-classifier", "--sample-number", "4")
    code = """
        import contextlib, sys
        from realnet.diffusion.cli import sample, train_diffusion
        script, *words = sys.argv
        place = words.index("then")
        sys.argv = [script, *words[:place]]
        with contextlib.suppress(SystemExit):  # how a command ends
            train_diffusion()
        sys.argv = [script, *words[place + 1:]]
        sample()
    """
    both = (*flags, "--out", tmp_path / "two", "then", *sampling, "--out", tmp_path / "shared")
    file = tmp_path / "both.py"
    file.write_text(textwrap.dedent(code))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, str(file), *map(str, both)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "two" / "diffusion" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["rebuild_mse"]) > 0
    done = call("sample", *sampling, "--out", tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    files = sorted(path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").glob("*/*.jpg"))
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "shared" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
