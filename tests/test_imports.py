"""What an import may cost: a table of modules and of what they must not bring along."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SHARED = Path(__file__).parent.parent / "packages/adcommon/src/adcommon"

METHODS = ("recontrast", "inctrl", "realnet", "uniad", "resad", "baselines.padim", "baselines.patchcore")
BUDGET = {
    ("adcommon", *METHODS): "numpy torch PIL yaml",
    ("adcommon.cli.main",): "numpy torch PIL scipy skimage onnxruntime",
    ("adcommon.deploy.load", "adcommon.deploy.runtime", "adcommon.deploy.inputs"): (
        "torch scipy skimage timm accelerate yaml tqdm adcommon.data.catalog"
    ),
    (
        *("adcommon.types.records", "adcommon.types.prediction", "adcommon.methods"),
        *("adcommon.io.files", "adcommon.io.images", "adcommon.io.cache", "adcommon.io.model_folder"),
        *("adcommon.data.preprocess", "adcommon.data.order", "adcommon.data.sources.folder"),
        *("adcommon.results.rows", "adcommon.results.gallery", "adcommon.results.card"),
        *("adcommon.results.pictures", "adcommon.results.spread", "adcommon.deploy.runtime"),
        *("adcommon.deploy.predict", "adcommon.deploy.watch.watch", "adcommon.cli.watch"),
        *("adcommon.data.door", "adcommon.types.threshold"),
        *("adcommon.cli.app", "adcommon.cli.model_commands", "adcommon.cli.quickstart", "adcommon.cli.sweep"),
        *("adcommon.cli.reproduce", "adcommon.cli.reproduced"),
        *("adcommon.cli.serve", "adcommon.deploy.serve.server"),
        *("adcommon.training.settings", "adcommon.training.jobs", "adcommon.training.run"),
        *("adcommon.training.logging", "adcommon.training.stop", "adcommon.training.tracking"),
        *("adcommon.training.launchers", "adcommon.training.trials"),
        *(f"{method}.recipes" for method in METHODS),
        *(f"{method}.cli" for method in METHODS),
        *("inctrl.compat.cli", "inctrl.winclip.cli", "uniad.pictures.cli", "realnet.diffusion.cli"),
    ): "torch scipy skimage timm accelerate tensorboard mlflow wandb ray submitit",
    (
        *("adcommon.data.sources.access", "adcommon.data.check.dataset", "adcommon.data.lists.manifest"),
        *("adcommon.data.lists.fewshot", "adcommon.data.sources.cifar10", "adcommon.data.sources.synthetic"),
        *("adcommon.data.prepare.command", "adcommon.data.loco", "adcommon.cli.list_commands"),
        *("adcommon.metrics", "adcommon.metrics.streaming", "adcommon.metrics.spro"),
        *("adcommon.evaluation.loco", "adcommon.testing.trees", "adcommon.testing.downloads"),
    ): "torch skimage timm accelerate",
    ("adcommon.training.devices",): "timm torchvision accelerate",
    ("adcommon.models.weights", "adcommon.models.backbones"): "timm torchvision",
    ("adcommon.evaluation.collect", "adcommon.evaluation.measure"): "timm torchvision accelerate skimage",
}
"""Modules that may be imported together -> libraries that are not to be loaded by it."""


@pytest.mark.parametrize("modules", BUDGET, ids=lambda modules: modules[0])
def test_an_import_brings_no_more_than_it_needs(modules: tuple[str, ...]) -> None:
    code = (
        f"import sys, {', '.join(modules)}\n"
        f"print(*[name for name in {BUDGET[modules].split()!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_runs_without_scipy_does_not_ask_for_it_later() -> None:
    """Inside a function neither; who exports has torch, and SciPy with it."""
    files = [path for room in ("io", "results", "deploy") for path in (SHARED / room).rglob("*.py")]
    found = [path for path in files if re.search(r"^ *(from|import) (scipy|skimage)", path.read_text(), re.M)]
    assert found == [SHARED / "deploy/exporting/checked.py"]
