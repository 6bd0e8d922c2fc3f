import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.errors import Stopped, UnreadableImage
from adcommon.models.checkpoint import load_model
from adcommon.training.recipes import from_json
from adcommon.training.run import RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from uniad.recipes import Recipe
from uniad.train import check_inputs, train

SETTINGS = Settings(weights="random", cache=False)


def run_once(
    root: Path, name: str, recipe: Recipe, settings: Settings = SETTINGS, stop: StopSignal | None = None
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    splits = load_splits("mvtec", root, ("bottle", "cable"))
    group = RunGroup(root / name, resume=True)
    rows = train(recipe, splits, group.run("all"), Accelerator(cpu=True), settings, stop or StopSignal())
    return rows, load_model(root / name / "all" / "model")[1]


def table(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name / "all" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(mvtec, tiny) -> None:
    (_, first), (_, second) = run_once(mvtec, "first", tiny), run_once(mvtec, "second", tiny)
    _, other = run_once(mvtec, "other", replace(tiny, seed=5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    name = "reconstruction.input_proj.weight"
    assert not torch.equal(first[name], other[name])


class _StopsAfter(StopSignal):
    """Asks to stop at the n-th question."""

    def __init__(self, steps: int) -> None:
        self.asked, self.steps = 0, steps

    @property
    def requested(self) -> bool:
        self.asked += 1
        return self.asked >= self.steps

    @requested.setter
    def requested(self, value: bool) -> None:
        raise AssertionError("nobody sets it here")


@pytest.mark.parametrize("change", [{}, {"hflip": True}], ids=["kept features", "augmented"])
def test_a_stopped_and_resumed_run_ends_in_the_bits_of_an_unbroken_one(mvtec, tiny, change) -> None:
    recipe = replace(tiny, keep_best=True, **change)
    _, whole = run_once(mvtec, "whole", recipe)
    with pytest.raises(Stopped, match=r"after step 4 .*--resume"):
        run_once(mvtec, "parts", recipe, stop=_StopsAfter(4))
    _, resumed = run_once(mvtec, "parts", recipe, replace(SETTINGS, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert table(mvtec, "whole") == table(mvtec, "parts")
    best = [load_model(mvtec / name / "all" / "model-best")[1] for name in ("whole", "parts")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_kept_features_change_no_number_beyond_rounding(mvtec, tiny) -> None:
    run_once(mvtec, "kept", tiny)
    run_once(mvtec, "computed", replace(tiny, cache_features=False))
    kept, computed = ([float(row["loss"]) for row in table(mvtec, name)] for name in ("kept", "computed"))
    assert kept == pytest.approx(computed, rel=1e-4)


def test_metrics_have_every_step_and_the_rate_of_its_epoch(mvtec, tiny) -> None:
    run_once(mvtec, "run", replace(tiny, epochs=5, lr_step=2, evaluate_every=2))
    rows = table(mvtec, "run")
    per_epoch = len(rows) // 5
    assert [int(row["step"]) for row in rows] == list(range(1, 5 * per_epoch + 1))
    rates = [float(row["lr"]) for row in rows[::per_epoch]]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-4, 1e-5, 1e-5])
    measured = [int(row["step"]) for row in rows if row["bottle/image_auroc"]]
    assert measured == [2 * per_epoch, 4 * per_epoch]


def test_the_backbone_never_changes(mvtec, tiny) -> None:
    _, short = run_once(mvtec, "short", replace(tiny, iterations=1))
    _, long = run_once(mvtec, "long", tiny)
    assert all(torch.equal(short[name], long[name]) for name in short if name.startswith("backbone."))
    assert not torch.equal(
        short["reconstruction.output_proj.weight"], long["reconstruction.output_proj.weight"]
    )


def test_the_model_folder_says_everything_about_itself(mvtec, tiny) -> None:
    rows, _ = run_once(mvtec, "run", tiny)
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "uniad"), ("cable", "standard"), ("cable", "uniad"))
    ]
    config = json.loads((mvtec / "run" / "all" / "model" / "config.json").read_text())
    assert config["categories"] == ["bottle", "cable"]
    assert config["setting"] == "multi-class"
    assert config["threshold"]["images"] == 1
    assert from_json(Recipe, config["recipe"]) == tiny
    card = (mvtec / "run" / "all" / "model" / "README.md").read_text()
    assert "CC BY-NC-SA 4.0" in card
    assert "2206.03687" in card


def test_the_best_model_is_kept_only_where_the_recipe_wants_it(mvtec, tiny) -> None:
    run_once(mvtec, "run", tiny)
    assert not (mvtec / "run" / "all" / "model-best").exists()
    run_once(mvtec, "best", replace(tiny, keep_best=True))
    config, _ = load_model(mvtec / "best" / "all" / "model-best", "uniad")
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
