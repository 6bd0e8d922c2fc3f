"""The rules of docs/architecture.md, held by machine."""

import ast
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(ROOT.glob("packages/*/src/*"))
METHODS = [source for source in SOURCES if source.name not in ("adcommon", "baselines")]
BASELINES = [ROOT / "packages/baselines/src/baselines" / name for name in ("padim", "patchcore")]
FILES = [path for source in SOURCES for path in sorted(source.rglob("*.py"))]
SPINE = [
    *("recipes", "published", "model", "losses", "optimiser", "metrics"),
    *("detector", "evaluate", "train", "checkpoint", "cli"),
]
"""Files that every method has, in the order of reading."""


@pytest.mark.parametrize("source", METHODS, ids=lambda source: source.name)
def test_every_method_has_the_same_shelf(source: Path) -> None:
    assert [name for name in SPINE if not (source / f"{name}.py").exists()] == []
    assert [name for name in ("network", "compat") if not (source / name / "__init__.py").exists()] == []


@pytest.mark.parametrize("source", BASELINES, ids=lambda source: source.name)
def test_what_trains_nothing_has_a_shorter_shelf(source: Path) -> None:
    shelf = [name for name in SPINE if name not in ("losses", "optimiser", "metrics", "evaluate")]
    assert [name for name in shelf if not (source / f"{name}.py").exists()] == []


@pytest.mark.parametrize("source", [*METHODS, BASELINES[0].parent], ids=lambda source: source.name)
def test_every_file_of_a_method_has_a_test_file(source: Path) -> None:
    modules = [path.relative_to(source) for path in source.rglob("*.py") if path.name != "__init__.py"]
    tests = {path: source.parent.parent / "tests" / path.parent / f"test_{path.name}" for path in modules}
    assert {str(path) for path, test in tests.items() if not test.exists()} == set()
    assert source not in METHODS or (source.parent.parent / "tests" / "test_golden.py").exists()


def test_the_shared_package_has_a_door_and_rooms() -> None:
    (source,) = [source for source in SOURCES if source.name == "adcommon"]
    entries = {path.name for path in source.iterdir()} - {"__pycache__"}
    assert len(entries) <= 15
    assert {name for name in entries if name.endswith(".py")} == {"__init__.py", "errors.py", "methods.py"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_package_is_typed(source: Path) -> None:
    assert (source / "py.typed").exists()


def test_no_room_is_crowded() -> None:
    folders = {path.parent for path in FILES}
    crowded = {folder: count for folder in folders if (count := len(list(folder.glob("*.py")))) > 20}
    assert crowded == {}


def test_no_file_outgrows_its_readers() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {path: count for path, count in lines.items() if count > 300} == {}


@pytest.mark.parametrize("source", [*METHODS, *BASELINES], ids=lambda source: source.name)
def test_the_training_reads_as_the_paper_in_one_sitting(source: Path) -> None:
    assert len((source / "train.py").read_text().splitlines()) < 200


def test_private_names_stay_in_their_file() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name.name} from {node.module}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.name.startswith("_") and not name.name.startswith("__")
    ]
    assert found == []


def test_entry_points_resolve() -> None:
    groups = ("adcommon.methods", "adcommon.quickstart")
    points = [point for group in groups for point in entry_points(group=group)]
    assert {point.name for point in points} >= {"recontrast", "inctrl", "realnet", "uniad", "resad", "padim"}
    for point in points:
        assert callable(point.load())


def test_nothing_is_left_to_do_silently() -> None:
    unwanted = re.compile(
        r"NotImplementedError|TODO|FIXME|except( Exception)?: *pass|filterwarnings\(.ignore.\)"
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in FILES
        for line in path.read_text().splitlines()
        if unwanted.search(line)
    ]
    assert found == []
