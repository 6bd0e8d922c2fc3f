import json

import numpy as np
from safetensors.numpy import load_file

from adcommon.models.devices import choose_device
from adcommon.training.devices import start
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from baselines.patchcore.train import train


def test_a_pass_leaves_a_model_its_numbers_and_pictures(patchcore_recipe, splits, tmp_path) -> None:
    settings = Settings(out=tmp_path, weights="random", cache=False, maps=True)
    run = Run(tmp_path / "bottle")
    with StopSignal() as stop:
        accelerator = start(choose_device(None, "cpu"))
        rows = train(patchcore_recipe, splits["bottle"], run, accelerator, settings, stop)
    (row,) = rows
    assert (row["method"], row["protocol"], row["weights"]) == ("patchcore", "standard", "random")
    config = json.loads((run.model / "config.json").read_text())
    assert config["metrics"] == rows
    tensors = load_file(run.model / "model.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert {"memory"} <= tensors.keys()
    assert len(list(run.maps.glob("*/*.jpg"))) == len(splits["bottle"].test)
    assert 0 <= row["image_auroc"] <= 1
    assert config["threshold"]["origin"] == "left out in turn"
    assert len(config["threshold"]["scores"]) == 6
