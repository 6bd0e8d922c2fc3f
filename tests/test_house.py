"""The rules of docs/architecture.md, held by machine."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(ROOT.glob("packages/*/src/*"))
SPINE = [
    *("recipes", "model", "losses", "optimiser", "detector", "official", "train", "evaluate", "cli"),
]
FILLED = [source for source in SOURCES if source.name != "adcommon" and (source / "model.py").exists()]
TORCH_FREE = [
    *(
        "records",
        "errors",
        "files",
        "images",
        "options",
        "report",
        "runs",
        "threshold",
        "visualise",
        "cli",
        "commands",
        "jobs",
        "gallery",
        "tables",
        "spread",
        "sweep",
    ),
    *(
        "datasets",
        "datasets.check",
        "datasets.fewshot",
        "datasets.manifest",
        "datasets.order",
        "datasets.cifar10",
        "datasets.inventory",
        "list_commands",
        "saturation",
    ),
    *("prepare.command", "testing.trees", "testing.downloads", "methods", "quickstart"),
]


@pytest.mark.parametrize("source", FILLED, ids=lambda source: source.name)
def test_every_method_has_the_same_files(source: Path) -> None:
    assert [name for name in SPINE if not (source / f"{name}.py").exists()] == []


@pytest.mark.parametrize("source", FILLED, ids=lambda source: source.name)
def test_every_method_has_a_test_file_for_each_of_its_files(source: Path) -> None:
    tests = source.parent.parent / "tests"
    modules = {path.stem for path in source.glob("*.py")} - {"__init__"}
    assert {name for name in modules if not (tests / f"test_{name}.py").exists()} == set()
    assert (tests / "test_golden.py").exists()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_importing_a_package_imports_nothing(source: Path) -> None:
    text = (source / "__init__.py").read_text()
    assert re.search(r"^\s*(import|from)\s", text, re.MULTILINE) is None
    assert (source / "py.typed").exists()


def test_no_file_outgrows_its_readers() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in ROOT.glob("packages/*/src/**/*.py")
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_entry_points_resolve() -> None:
    groups = ("adcommon.methods", "adcommon.quickstart")
    points = [point for group in groups for point in entry_points(group=group)]
    assert {point.name for point in points} >= {"recontrast", "inctrl", "realnet", "uniad", "resad"}
    for point in points:
        assert callable(point.load())


@pytest.mark.parametrize("modules", [[f"adcommon.{name}" for name in TORCH_FREE]])
def test_what_should_be_free_of_torch_is(modules: list[str]) -> None:
    modules = [*modules, *(f"{source.name}.recipes" for source in FILLED), *(f"{s.name}.cli" for s in FILLED)]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_nothing_is_left_to_do_silently() -> None:
    unwanted = re.compile(
        r"NotImplementedError|TODO|FIXME|except( Exception)?: *pass|filterwarnings\(.ignore.\)"
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in ROOT.glob("packages/*/src/**/*.py")
        for line in path.read_text().splitlines()
        if unwanted.search(line)
    ]
    assert found == []
