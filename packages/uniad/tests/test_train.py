import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.data.loading import AnomalyDataset
from adcommon.errors import UnreadableImage
from adcommon.io.model_folder import TENSORS, read_config
from adcommon.io.schema import build
from adcommon.models.pickles import read_safetensors
from adcommon.testing.commands import read_table
from adcommon.testing.runs import stopped_and_resumed
from adcommon.training.run import Run, RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from uniad.checkpoint import load_trained
from uniad.recipes import Recipe
from uniad.train import check_inputs, train

SETTINGS = Settings(weights="random", cache=False)


def run_once(root: Path, name: str, recipe: Recipe) -> tuple[list[dict], dict[str, torch.Tensor]]:
    splits, run = (
        load_splits("mvtec", root, ("bottle", "cable")),
        RunGroup(root / name, resume=True).run("all"),
    )
    rows = train(recipe, splits, run, Accelerator(cpu=True), SETTINGS, StopSignal())
    return rows, read_safetensors(run.model / TENSORS)


def table(root: Path, name: str) -> list[dict[str, str]]:
    return read_table(root / name / "all" / "metrics.csv")


def losses(root: Path, name: str) -> list[float]:
    return [float(row["loss"]) for row in table(root, name)]


@pytest.fixture(scope="module")
def plain(shared_mvtec: Path, tiny: Recipe) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """Rows and model of the small training; its folder is `shared_mvtec`/plain."""
    return run_once(shared_mvtec, "plain", tiny)


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(
    shared_mvtec, tiny, plain
) -> None:
    _, second = run_once(shared_mvtec, "second", tiny)
    run_once(shared_mvtec, "other", replace(tiny, seed=5, iterations=1))
    assert all(torch.equal(plain[1][name], second[name]) for name in second)
    assert losses(shared_mvtec, "other")[0] != losses(shared_mvtec, "plain")[0]


@pytest.mark.parametrize(
    "change", [{}, {"hflip": True}, {"whiten": True}], ids=["kept features", "augmented", "whitened"]
)
def test_a_stopped_and_resumed_run_ends_in_the_bits_of_an_unbroken_one(
    shared_mvtec, tiny, change, tmp_path
) -> None:
    splits = load_splits("mvtec", shared_mvtec, ("bottle", "cable"))

    def trains(run: Run, resume: bool, stop: StopSignal) -> None:
        recipe, settings = replace(tiny, keep_best=True, **change), replace(SETTINGS, resume=resume)
        train(recipe, splits, run, Accelerator(cpu=True), settings, stop)

    whole, _ = stopped_and_resumed(trains, tmp_path, questions=4, step=4)
    assert whole.best_model.is_dir()


def test_kept_features_change_no_number_beyond_rounding(shared_mvtec, tiny, plain) -> None:
    run_once(shared_mvtec, "computed", replace(tiny, cache_features=False))
    assert losses(shared_mvtec, "computed") == pytest.approx(losses(shared_mvtec, "plain"), rel=1e-4)


def test_whitened_features_are_rebuilt_and_the_model_keeps_how(shared_mvtec, tiny, plain) -> None:
    _, tensors = run_once(shared_mvtec, "white", replace(tiny, whiten=True))
    assert set(tensors) - set(plain[1]) == {"whitening.mean", "whitening.factor"}
    trained = load_trained(shared_mvtec / "white" / "all" / "model")
    model = trained.scorer.model
    images = (
        AnomalyDataset(
            [r for s in load_splits("mvtec", shared_mvtec, ("bottle", "cable")).values() for r in s.train],
            trained.scorer.preprocess,
        )
        .batch(range(12))
        .images
    )
    patches = model.features(images).movedim(1, -1).flatten(0, -2)
    assert float(patches.square().mean()) == pytest.approx(1, abs=0.3)
    assert losses(shared_mvtec, "white")[0] != losses(shared_mvtec, "plain")[0]
    with torch.inference_mode():
        rebuilt = model.whitening(model.rebuilt(images))
        assert rebuilt.numpy() == pytest.approx(model(images).rebuilt.numpy(), abs=1e-2)


def test_metrics_have_every_step_and_the_rate_of_its_epoch(shared_mvtec, tiny) -> None:
    run_once(shared_mvtec, "rates", replace(tiny, epochs=5, lr_step=2, evaluate_every=2))
    rows = table(shared_mvtec, "rates")
    per_epoch = len(rows) // 5
    assert [int(row["step"]) for row in rows] == list(range(1, 5 * per_epoch + 1))
    rates = [float(row["lr"]) for row in rows[::per_epoch]]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-4, 1e-5, 1e-5])
    measured = [int(row["step"]) for row in rows if row["bottle/image_auroc"]]
    assert measured == [2 * per_epoch, 4 * per_epoch]


def test_the_backbone_never_changes(shared_mvtec, tiny, plain) -> None:
    _, short = run_once(shared_mvtec, "short", replace(tiny, iterations=1))
    _, long = plain
    assert all(torch.equal(short[name], long[name]) for name in short if name.startswith("backbone."))
    assert not torch.equal(
        short["reconstruction.output_proj.weight"], long["reconstruction.output_proj.weight"]
    )


def test_the_model_folder_says_everything_about_itself(shared_mvtec, tiny, plain) -> None:
    rows, _ = plain
    folder = shared_mvtec / "plain" / "all" / "model"
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "uniad"), ("cable", "standard"), ("cable", "uniad"))
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["categories"] == ["bottle", "cable"]
    assert config["setting"] == "multi-class"
    assert config["threshold"]["images"] == 1
    assert build(Recipe, config["recipe"], "config.json") == tiny
    card = (folder / "README.md").read_text()
    assert "CC BY-NC-SA 4.0" in card
    assert "2206.03687" in card


def test_the_best_model_is_kept_only_where_the_recipe_wants_it(shared_mvtec, tiny, plain) -> None:
    assert not (shared_mvtec / "plain" / "all" / "model-best").exists()
    run_once(shared_mvtec, "best", replace(tiny, keep_best=True))
    config = read_config(shared_mvtec / "best" / "all" / "model-best")
    assert (config["threshold"], config["metrics"]) == (None, [])


def test_a_category_with_one_kind_of_test_images_has_no_interim_numbers(mvtec, tiny) -> None:
    splits = load_splits("mvtec", mvtec, ("bottle", "cable"))
    normal = [record for record in splits["cable"].test if record.label == 0]
    splits["cable"] = replace(splits["cable"], test=normal)
    run = RunGroup(mvtec / "run", resume=True).run("all")
    train(replace(tiny, protocol="standard"), splits, run, Accelerator(cpu=True), SETTINGS, StopSignal())
    assert {name.split("/")[0] for name in table(mvtec, "run")[0] if "/" in name} == {"bottle"}


def test_a_damaged_image_is_found_before_training(mvtec, tiny) -> None:
    splits = load_splits("mvtec", mvtec, ("bottle", "cable"))
    splits["cable"].test[0].image.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="1 of 24 images"):
        check_inputs(tiny, splits, SETTINGS)
