"""Every installed command answers --help, without importing torch."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

PACKAGES = ("adcommon", "recontrast", "inctrl", "realnet", "uniad", "resad", "baselines")
COMMANDS = [
    point for point in entry_points(group="console_scripts") if point.module.split(".")[0] in PACKAGES
]


def run(module: str, function: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; from {module} import {function}\n"
        f"sys.argv = ['command', *{list(arguments)!r}]\n"
        f"try: {function}()\n"
        "finally: assert 'torch' not in sys.modules, 'torch was imported'"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("point", COMMANDS, ids=lambda point: point.name)
def test_help_needs_no_torch(point) -> None:
    module, _, function = point.value.partition(":")
    done = run(module, function, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_there_are_commands_for_every_experiment() -> None:
    names = {point.name for point in COMMANDS}
    experiments = "mvtec visa oct aptos isic mvtec-multiclass visa-multiclass mvtec-stable visa-stable"
    assert names >= {f"recontrast-{name}" for name in (*experiments.split(), "train", "evaluate", "predict")}


DRY_RUN = ["prepare", "elpv", "--from-package", "--dry-run", "--save-folder", "unused"]


@pytest.mark.parametrize("arguments", [["methods"], ["datasets"], DRY_RUN], ids=" ".join)
def test_ad_looks_things_up_without_torch(arguments: list[str]) -> None:
    done = run("adcommon.cli.main", "main", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_ad_help_lists_what_there_is() -> None:
    text = run("adcommon.cli.main", "main", "--help").stdout
    for name in (
        "quickstart",
        "datasets",
        "check",
        "prepare",
        "weights",
        "evaluate",
        "predict",
        "serve",
        "report",
    ):
        assert name in text


def test_a_mistyped_sub_command_ends_with_exit_code_2() -> None:
    done = run("adcommon.cli.main", "main", "quikstart")
    assert done.returncode == 2
    assert "quickstart" in done.stdout + done.stderr
