"""Every installed command answers --help, without importing torch."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import NamedTuple

import pytest

PACKAGES = ("adcommon", "recontrast", "inctrl", "realnet", "uniad", "resad", "baselines")
COMMANDS = {
    point.name: point
    for point in entry_points(group="console_scripts")
    if point.module.split(".")[0] in PACKAGES
}
CALLS = """
import contextlib, importlib, io, json, sys
for command, module, function, *words in json.load(sys.stdin):
    sys.argv, said, code = [command, *words], io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            getattr(importlib.import_module(module), function)()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code or 0, said.getvalue(), 'torch' in sys.modules]))
"""
"""Calls commands one after the other."""


class Done(NamedTuple):
    """What a command did."""

    code: int
    text: str
    imported_torch: bool


def run(*calls: Sequence[str]) -> list[Done]:
    """Call commands, each with its words, in one process of their own."""
    wanted = [[words[0], COMMANDS[words[0]].module, COMMANDS[words[0]].attr, *words[1:]] for words in calls]
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        input=json.dumps(wanted),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def shown() -> dict[str, Done]:
    """What each command says of itself."""
    return dict(zip(COMMANDS, run(*((name, "--help") for name in COMMANDS)), strict=True))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_no_torch(name: str, shown: dict[str, Done]) -> None:
    assert shown[name].code == 0, shown[name].text
    assert f"Usage: {name} " in shown[name].text
    assert not shown[name].imported_torch


def test_there_are_commands_for_every_experiment() -> None:
    experiments = "mvtec visa oct aptos isic mvtec-multiclass visa-multiclass mvtec-stable visa-stable"
    assert set(COMMANDS) >= {
        f"recontrast-{name}" for name in (*experiments.split(), "train", "evaluate", "predict")
    }


def test_ad_looks_things_up_without_torch() -> None:
    dry_run = ("ad", "prepare", "elpv", "--from-package", "--dry-run", "--save-folder", "unused")
    for done in run(("ad", "methods"), ("ad", "datasets"), dry_run):
        assert done.code == 0, done.text
        assert done.text
        assert not done.imported_torch


def test_ad_help_lists_what_there_is(shown: dict[str, Done]) -> None:
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
        assert name in shown["ad"].text


def test_a_mistyped_sub_command_ends_with_exit_code_2() -> None:
    (done,) = run(("ad", "quikstart"))
    assert done.code == 2
    assert "quickstart" in done.text
