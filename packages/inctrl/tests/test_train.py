import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from adcommon.errors import BadValue, Stopped, UnreadableImage
from adcommon.models.checkpoint import load_model
from adcommon.training.run import RunGroup
from adcommon.training.stop import StopSignal
from inctrl.data import find_targets, training_records
from inctrl.recipes import Recipe
from inctrl.settings import TrainSettings
from inctrl.train import check_inputs, train

TRAINED_ON = ("bottle", "cable")
SETTINGS = TrainSettings(weights="random", cache=False)


def run_once(
    root: Path, name: str, recipe: Recipe, settings: TrainSettings = SETTINGS, stop: StopSignal | None = None
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    records, targets = (
        training_records(recipe, root, TRAINED_ON),
        find_targets(recipe.test_datasets, root, ("candle",)),
    )
    run = RunGroup(root / name, resume=True).run("2-shot")
    rows = train(recipe, 2, records, targets, run, Accelerator(cpu=True), settings, stop or StopSignal())
    return rows, load_model(root / name / "2-shot" / "model")[1]


def table(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name / "2-shot" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


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


def test_a_stopped_and_resumed_run_ends_in_the_bits_of_an_unbroken_one(data_root, tiny) -> None:
    recipe = replace(tiny, evaluate_every=1)
    _, whole = run_once(data_root, "whole", recipe)
    with pytest.raises(Stopped, match=r"after step 4 .*--resume"):
        run_once(data_root, "parts", recipe, stop=_StopsAfter(4))
    _, resumed = run_once(data_root, "parts", recipe, replace(SETTINGS, resume=True))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert table(data_root, "whole") == table(data_root, "parts")
    assert [bool(row["visa/candle/image_auroc"]) for row in table(data_root, "whole")] == [False] * 2 + [
        True
    ] + [False] * 3


def test_kept_features_change_no_number_beyond_rounding(data_root, tiny) -> None:
    run_once(data_root, "kept", tiny)
    run_once(data_root, "computed", replace(tiny, cache_features=False))
    kept, computed = ([float(row["loss"]) for row in table(data_root, name)] for name in ("kept", "computed"))
    assert kept[0] == pytest.approx(computed[0], rel=1e-4)
    assert kept == pytest.approx(computed, rel=2e-2)


def test_the_selected_epoch_is_exported(data_root, tiny, caplog: pytest.LogCaptureFixture) -> None:
    rows, exported = run_once(data_root, "first", replace(tiny, select_epoch=1))
    folder = data_root / "first" / "2-shot"
    assert sorted(path.name for path in (folder / "epochs").iterdir()) == ["001", "002"]
    first, second = (load_model(folder / "epochs" / name)[1] for name in ("001", "002"))
    assert all(torch.equal(exported[name], first[name]) for name in first)
    assert not torch.equal(first["adapter.fc.0.weight"], second["adapter.fc.0.weight"])
    config = json.loads((folder / "model" / "config.json").read_text())
    assert (config["epoch"], config["shots"], len(config["metrics"])) == (1, 2, len(rows))
    run_once(data_root, "later", replace(tiny, select_epoch=6))
    assert "epoch 6 was to be exported and 2 were run" in caplog.text


@pytest.mark.parametrize("order", ["corrected", "reference"])
def test_a_clip_trains_in_both_orders_and_tells_text_apart(data_root, clip_recipe, order: str) -> None:
    rows, _ = run_once(data_root, order, replace(clip_recipe, batch_order=order))
    assert all(row["text"] for row in rows)


def test_what_cannot_be_trained_is_said_first(data_root, tiny) -> None:
    records, targets = (
        training_records(tiny, data_root, TRAINED_ON),
        find_targets(tiny.test_datasets, data_root, ("candle",)),
    )
    with pytest.raises(BadValue, match=r"batch_order reference mixes levels of equal width"):
        check_inputs(replace(tiny, batch_order="reference"), records, targets, SETTINGS)
    with pytest.raises(BadValue, match="shots is 20"):
        check_inputs(replace(tiny, shots=(20,)), records, targets, SETTINGS)
    targets[0].test[0].image.write_bytes(b"no image")
    with pytest.raises(UnreadableImage):
        check_inputs(tiny, records, targets, SETTINGS)
