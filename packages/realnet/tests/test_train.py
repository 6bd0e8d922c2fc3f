import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.data import load_splits
from adcommon.errors import DatasetNotFound, Stopped, UnreadableImage
from adcommon.models.checkpoint import load_model
from adcommon.training.recipes import from_json
from adcommon.training.run import RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from realnet.recipes import Recipe
from realnet.train import check_inputs, train

SETTINGS = Settings(weights="random", cache=False)


def run_once(
    root: Path, name: str, recipe: Recipe, settings: Settings = SETTINGS, stop: StopSignal | None = None
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    split = load_splits("mvtec", root, ("bottle",))["bottle"]
    run = RunGroup(root / name, resume=True).run("bottle")
    rows = train(recipe, "bottle", split, run, Accelerator(cpu=True), settings, stop or StopSignal())
    return rows, load_model(root / name / "bottle" / "model")[1]


def table(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name / "bottle" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_runs_with_one_seed_end_in_the_same_bits_and_another_seed_does_not(mvtec, tiny) -> None:
    tiny = replace(tiny, iterations=3)
    (_, first), (_, second) = run_once(mvtec, "first", tiny), run_once(mvtec, "second", tiny)
    _, other = run_once(mvtec, "other", replace(tiny, seed=5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["rrs.decoder3.2.weight"], other["rrs.decoder3.2.weight"])


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


@pytest.mark.parametrize("keep", [True, False], ids=["kept maps", "computed maps"])
def test_a_stopped_and_resumed_run_ends_in_the_bits_of_an_unbroken_one(mvtec, tiny, keep, caplog) -> None:
    recipe = replace(tiny, keep_best=True, cache_features=keep)
    rows, whole = run_once(mvtec, "whole", recipe)
    with pytest.raises(Stopped, match=r"after step 5 of bottle.*--resume"):
        run_once(mvtec, "parts", recipe, stop=_StopsAfter(5))
    state = torch.load(mvtec / "parts/bottle/resume/state.pt", weights_only=True)
    assert "indexes.block2_layer2" in state["parts"]["afs"]
    resumed_rows, resumed = run_once(mvtec, "parts", recipe, replace(SETTINGS, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert table(mvtec, "whole") == table(mvtec, "parts")
    best = [load_model(mvtec / name / "bottle" / "model-best")[1] for name in ("whole", "parts")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in resumed_rows]


def test_a_resumed_run_does_not_choose_its_channels_again(mvtec, tiny, monkeypatch) -> None:
    with pytest.raises(Stopped):
        run_once(mvtec, "parts", tiny, stop=_StopsAfter(2))
    monkeypatch.setattr("realnet.train.select_channels", None)  # calling it would fail
    run_once(mvtec, "parts", tiny, replace(SETTINGS, resume=True))


def test_kept_maps_change_no_number_beyond_rounding(mvtec, tiny) -> None:
    tiny = replace(tiny, iterations=4)
    run_once(mvtec, "kept", tiny)
    run_once(mvtec, "computed", replace(tiny, cache_features=False))
    kept, computed = ([float(row["loss"]) for row in table(mvtec, name)] for name in ("kept", "computed"))
    assert kept == pytest.approx(computed, rel=1e-3)


def test_channels_are_chosen_on_anomalies_alone_and_never_change(mvtec, tiny) -> None:
    _, short = run_once(mvtec, "short", replace(tiny, iterations=1))
    _, long = run_once(mvtec, "long", tiny)
    kept = long["afs.indexes.block2_layer2"]
    assert torch.equal(kept, short["afs.indexes.block2_layer2"])
    assert torch.equal(kept, kept.sort().values)
    assert len(kept.unique()) == 64
    assert not torch.equal(kept, torch.arange(64))
    assert torch.equal(long["afs.indexes.block1_layer1"], torch.arange(64))
    frozen = [name for name in long if name.startswith("backbone.")]
    assert all(torch.equal(long[name], short[name]) for name in frozen)


def test_every_step_has_its_losses_and_some_their_measurements(mvtec, tiny) -> None:
    run_once(mvtec, "run", replace(tiny, feature_weight=2.0))
    rows = table(mvtec, "run")
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    for row in rows:
        parts = float(row["segmentation"]) + 2 * float(row["features"])
        assert float(row["loss"]) == pytest.approx(parts)
    assert [int(row["step"]) for row in rows if row["image_auroc"]] == [4]


def test_the_model_folder_says_everything_about_itself(mvtec, tiny, caplog) -> None:
    with caplog.at_level(logging.INFO):
        rows, _ = run_once(mvtec, "run", replace(tiny, calibration_share=0.2, iterations=2))
    assert [(row["category"], row["protocol"]) for row in rows] == [
        *(("bottle", "standard"), ("bottle", "realnet"))
    ]
    folder = mvtec / "run" / "bottle" / "model"
    config = json.loads((folder / "config.json").read_text())
    assert config["threshold"]["images"] == 1
    assert config["step"] == 2
    assert from_json(Recipe, config["recipe"]) == replace(tiny, calibration_share=0.2, iterations=2)
    card = (folder / "README.md").read_text()
    assert "CC BY-NC-SA 4.0" in card
    assert "2403.05897" in card
    assert "rrs parameters" in caplog.text


def test_what_cannot_be_used_is_found_before_training(mvtec, tiny) -> None:
    splits = load_splits("mvtec", mvtec, ("bottle", "cable"))
    with pytest.raises(DatasetNotFound, match="--sdas-dir"):
        check_inputs(replace(tiny, anomaly_source="sdas"), splits, SETTINGS)
    check_inputs(tiny, splits, SETTINGS)
    splits["cable"].test[0].image.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="1 of 24 images"):
        check_inputs(tiny, splits, SETTINGS)
