"""Golden files: what a reference gave on seeded weights and inputs, and a reader that compares.

A golden folder holds `.npz` files, some `.json` files and a `meta.json` that says how each file was made and
how closely its arrays must be met. Tests read everything that may vary from there.
"""

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def seeded_tensor(name: str, shape: Sequence[int], salt: int = 0) -> np.ndarray:
    """The value that golden weights give to the state-dict entry `name`; counters (int64) are zero.

    It depends on name, shape and salt only: PCG64, seeded with the CRC-32 of the name and the salt. Scales
    and variances are uniform in [0.5, 1.5); means and biases normal with deviation 0.1; kernels normal with
    deviation 1 / sqrt(fan in).

    >>> seeded_tensor("bn1.running_var", (2,)).round(4)
    array([0.8014, 1.1008], dtype=float32)
    """
    shape = tuple(int(length) for length in shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    draw = _generator(name, salt)
    vector = len(shape) <= 1
    if name.endswith("running_var") or (vector and name.endswith("weight")):
        value = draw.uniform(0.5, 1.5, shape)
    elif vector or name.endswith("running_mean"):
        value = draw.normal(0.0, 0.1, shape)
    else:
        value = draw.normal(0.0, math.prod(shape[1:]) ** -0.5, shape)
    return value.astype(np.float32)


def seeded_state(shapes: Mapping[str, Sequence[int]], salt: int = 0) -> dict[str, np.ndarray]:
    """Every entry of a state dict, from names and shapes."""
    return {name: seeded_tensor(name, shape, salt) for name, shape in shapes.items()}


def seeded_input(name: str, shape: Sequence[int], salt: int = 0) -> np.ndarray:
    """A standard-normal float32 input that golden files know as `name`."""
    return _generator(f"input:{name}", salt).normal(0.0, 1.0, tuple(map(int, shape))).astype(np.float32)


def _generator(name: str, salt: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), salt])


@dataclass(frozen=True, slots=True)
class Tolerance:
    """`got` passes where |got - stored| <= atol + rtol * |stored|; NaN equals NaN; both zero: exact."""

    rtol: float
    atol: float | list[float]
    """A list has one value per index of the first axis."""
    dtype: str
    """The precision to compute in, whatever the array is stored as."""
    outside: Mapping[str, Any] | None = None
    """Up to this "fraction" of the values may miss it, each by at most its "atol" (null: by any amount)."""


class GoldenFile:
    """One file of a golden folder: its arrays, its entry in `meta.json`, and the comparisons made so far.

    As a context manager it fails at the end if an output was neither compared nor listed as not comparable.
    """

    def __init__(self, path: Path, entry: dict[str, Any], salt: int) -> None:
        """Read nothing yet; arrays are read when they are asked for."""
        self.path, self.entry, self.salt = path, entry, salt
        self.drift = 1.0
        """Factor of float32 tolerances that are given step by step: how far rounding carries a trajectory
        depends on the processor."""
        self._arrays = np.load(path) if path.suffix == ".npz" else {}
        self._checked: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        """The stored array `name`."""
        return self._arrays[name]

    def json(self) -> Any:
        """The content of a `.json` file."""
        return json.loads(self.path.read_text())

    def input(self, given: Mapping[str, Any]) -> np.ndarray:
        """The input an entry describes as {"seeded": name, "shape": shape} or {"stored": name}.

        "slice" keeps one [start, stop] of each axis; "clamp" limits the values to [lowest, highest].
        """
        if "stored" in given:
            value = self[given["stored"]]
        else:
            value = seeded_input(given["seeded"], given["shape"], self.salt)
        value = value[tuple(slice(*part) for part in given.get("slice", ()))]
        return value.clip(*given["clamp"]) if "clamp" in given else value

    def tolerance(self, name: str) -> Tolerance:
        """The first pattern of the entry's `tolerance` that matches `name`."""
        for pattern, values in self.entry["tolerance"].items():
            if fnmatchcase(name, pattern):
                found = Tolerance(**values)
                if isinstance(found.atol, list) and found.dtype == "float32":
                    return replace(found, atol=[self.drift * atol for atol in found.atol])
                return found
        raise AssertionError(f"{self.path.name}: no tolerance for '{name}' in meta.json")

    def outputs(self, dtype: str | None = None) -> list[str]:
        """Names of the outputs to compare, in file order; with `dtype` only those computed in it."""
        skipped = set(self.entry.get("not_compared", ()))
        names = [name for name in self.entry["outputs"] if name not in skipped]
        return [name for name in names if dtype is None or self.tolerance(name).dtype == dtype]

    def check(self, name: str, got: Any, stored: Any = None) -> float:
        """Compare `got` with the stored array `name`, or with the value `stored`, within its tolerance.

        Returns:
            The largest absolute difference (0 for texts).
        """
        stored = np.asarray(self[name] if stored is None else stored)
        got = np.asarray(got.detach().cpu().numpy() if hasattr(got, "detach") else got)
        self._checked.add(name)
        what = f"{self.path.name}: {name}"
        if stored.dtype.kind in "USO":
            return _compare_texts(what, got, stored)
        return _compare(what, got, stored, self.tolerance(name))

    def check_all(self, values: Mapping[str, Any], dtype: str | None = None) -> None:
        """Compare every output computed in `dtype` (default: all outputs); each must be among `values`."""
        missing = [name for name in self.outputs(dtype) if name not in values]
        if missing:
            raise AssertionError(f"{self.path.name}: nothing computes {', '.join(missing)}")
        for name in self.outputs(dtype):
            self.check(name, values[name])

    def __enter__(self) -> "GoldenFile":
        """Start comparing."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Fail if an output was left out."""
        left = [name for name in self.entry.get("outputs", {}) if name not in self._checked]
        left = [name for name in left if name not in self.entry.get("not_compared", ())]
        if kind is None and left:
            raise AssertionError(f"{self.path.name}: never compared: {', '.join(left)}")


class GoldenFolder:
    """A folder of golden files with its `meta.json`."""

    def __init__(self, folder: Path) -> None:
        """Read `meta.json`; a missing folder is an error, never a skipped test."""
        self.folder = folder
        meta = json.loads((folder / "meta.json").read_text())
        self.method: str = meta["method"]
        self.salt: int = meta["salt"]
        self.files: dict[str, dict[str, Any]] = meta["files"]

    def names(self, kind: str) -> list[str]:
        """Names of the files of one kind, in the order of `meta.json`."""
        return [name for name, entry in self.files.items() if entry["kind"] == kind]

    def open(self, name: str) -> GoldenFile:
        """The file listed as `name`."""
        path = self.folder / (name if "." in name else f"{name}.npz")
        return GoldenFile(path, self.files[name], self.salt)

    def state(self, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The seeded state dict an entry describes as {"shapes": [files], "key": key or null}, or one file.

        Further keys, in this order: "prefixes" keeps names that begin with one of them, "replace" changes
        shapes, "add" adds names and shapes, "remove" or "not_seeded" drops names that match a shell pattern.
        """
        shapes: dict[str, Sequence[int]] = {}
        files = described["shapes"]
        for file in [files] if isinstance(files, str) else files:
            content = json.loads((self.folder / file).read_text())
            shapes |= content if described.get("key") is None else content[described["key"]]
        prefixes = tuple(described.get("prefixes", ("",)))
        shapes = {name: shape for name, shape in shapes.items() if name.startswith(prefixes)}
        replaced = described.get("replace", {})
        shapes |= {name: shape for name, shape in replaced.items() if name in shapes}
        shapes |= described.get("add", {})
        unwanted = [*described.get("remove", ()), *described.get("not_seeded", ())]
        shapes = {
            name: shape
            for name, shape in shapes.items()
            if not any(fnmatchcase(name, pattern) for pattern in unwanted)
        }
        return seeded_state(shapes, self.salt)

    def without_reader(self, kinds: Iterable[str]) -> list[str]:
        """The listed files whose kind is not among `kinds`: files that no test reads."""
        known = set(kinds)
        return [name for name, entry in self.files.items() if entry["kind"] not in known]


def golden_root(config: pytest.Config, tests: Path) -> Path:
    """The folder with one folder of golden files per method: `--golden-root`, or `golden` in the tests'."""
    return Path(config.getoption("--golden-root") or tests / "golden")


def golden_folder(config: pytest.Config, test: Path) -> GoldenFolder:
    """The golden files of the method to whose package a test file belongs."""
    tests = tests_of(test)
    return GoldenFolder(golden_root(config, tests) / tests.parent.name)


def tests_of(test: Path) -> Path:
    """The folder of tests of a package, from a file in it."""
    return next(folder for folder in test.parents if folder.name == "tests")


def golden_cases(
    metafunc: pytest.Metafunc, is_slow: Callable[[GoldenFolder, str], bool] = lambda folder, name: False
) -> None:
    """Run a test with a parameter `file` on all files of the kind that it is named after.

    Args:
        metafunc: what pytest collects; call this from `pytest_generate_tests`.
        is_slow: of a folder and the name of a file: true if only the slow tests read it.
    """
    if "file" not in metafunc.fixturenames:
        return
    folder = golden_folder(metafunc.config, metafunc.definition.path)
    names = folder.names(metafunc.function.__name__.removeprefix("test_"))
    metafunc.parametrize(
        "file",
        [pytest.param(name, marks=pytest.mark.slow if is_slow(folder, name) else ()) for name in names],
        indirect=True,
    )


def kinds_read(test: Path) -> set[str]:
    """The kinds of golden files that a test in a `test_golden*.py` beside this one is named after."""
    return {
        name
        for module in test.parent.glob("test_golden*.py")
        for name in re.findall(r"^def test_(\w+)", module.read_text(), re.MULTILINE)
    }


def _compare(what: str, got: np.ndarray, stored: np.ndarray, tolerance: Tolerance) -> float:
    if got.shape != stored.shape:
        raise AssertionError(f"{what}: shape {got.shape}, stored {stored.shape}")
    got64, stored64 = got.astype(np.float64), stored.astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.where(got64 == stored64, 0.0, np.abs(got64 - stored64))
    difference = np.where(np.isnan(got64) & np.isnan(stored64), 0.0, difference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    atol = np.asarray(tolerance.atol, dtype=np.float64)
    if atol.ndim:
        atol = atol.reshape(-1, *[1] * (stored.ndim - 1))
    relative = np.where(np.isfinite(stored64), np.abs(stored64), 0.0)
    excess = np.broadcast_to(difference - (atol + tolerance.rtol * relative), stored.shape)
    if excess.size and excess.max() > 0 and not _may_miss(difference[excess > 0], tolerance, stored.size):
        worst = np.unravel_index(excess.argmax(), excess.shape)
        raise AssertionError(
            f"{what}: {int((excess > 0).sum())} of {excess.size} values differ; worst at "
            f"{tuple(map(int, worst))}: got {got64[worst]:.10g}, stored {stored64[worst]:.10g}, difference "
            f"{difference[worst]:.3g} (atol {tolerance.atol}, rtol {tolerance.rtol}, {tolerance.dtype})"
        )
    return float(difference.max(initial=0.0))


def _may_miss(misses: np.ndarray, tolerance: Tolerance, values: int) -> bool:
    """True where the values out of tolerance are as few, and as near, as it allows."""
    if tolerance.outside is None or len(misses) > tolerance.outside["fraction"] * values:
        return False
    limit = tolerance.outside["atol"]
    return limit is None or bool(misses.max() <= limit)


def _compare_texts(what: str, got: np.ndarray, stored: np.ndarray) -> float:
    if not np.array_equal(got.astype(str), stored.astype(str)):
        raise AssertionError(f"{what}: {got.tolist()}, stored {stored.tolist()}")
    return 0.0
