import json
from pathlib import Path

import numpy as np
import pytest

from adcommon.testing.golden import GoldenFile, GoldenFolder, seeded_input, seeded_state, seeded_tensor


@pytest.fixture
def folder(tmp_path: Path) -> GoldenFolder:
    """One file with two outputs of different tolerance, one of which may be left out."""
    exact = {"rtol": 0.0, "atol": 0.0, "dtype": "int64"}
    close = {"rtol": 0.0, "atol": [0.1, 0.5], "dtype": "float32"}
    entry = {
        "kind": "sums",
        "stored_inputs": {"x": {}},
        "outputs": {"count": {}, "rows": {}, "drifting": {}},
        "not_compared": ["drifting"],
        "tolerance": {"count": exact, "*": close},
    }
    other = {"kind": "table", "tolerance": {"*": exact}}
    meta = {"method": "toy", "salt": 3, "files": {"sums": entry, "table.json": other}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "table.json").write_text('{"a": [1, 2]}')
    (tmp_path / "shapes.json").write_text('{"one": {"w": [2, 2]}, "two": {"b": [3]}}')
    rows = np.array([[1.0, np.nan], [3.0, np.inf]])
    np.savez(tmp_path / "sums.npz", x=np.ones(2), count=np.array(2), rows=rows, drifting=np.zeros(1))
    return GoldenFolder(tmp_path)


def test_seeded_values_are_those_of_the_golden_files() -> None:
    kernel = seeded_tensor("encoder.conv1.weight", (64, 3, 7, 7))
    np.testing.assert_allclose(kernel.std(), 147**-0.5, rtol=0.02)
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(seeded_tensor("bn1.running_var", (2,)), [0.8014, 1.1008], atol=1e-4)
    scale = seeded_tensor("bn1.weight", (1000,))
    assert 0.5 <= scale.min() < 0.52
    assert 1.48 < scale.max() < 1.5
    assert abs(seeded_tensor("bn1.bias", (1000,))).max() < 0.5
    assert seeded_tensor("bn1.num_batches_tracked", ()).dtype == np.int64


def test_name_and_salt_decide_the_seeded_values() -> None:
    shapes = {"a.weight": (4, 4), "b.weight": (4, 4)}
    state, salted = seeded_state(shapes), seeded_state(shapes, salt=1)
    assert not np.array_equal(state["a.weight"], state["b.weight"])
    assert not np.array_equal(state["a.weight"], salted["a.weight"])
    assert not np.array_equal(seeded_input("a.weight", (4, 4)), state["a.weight"])


def test_values_within_tolerance_pass_and_nan_equals_nan(folder: GoldenFolder) -> None:
    with folder.open("sums") as golden:
        golden.check_all({"count": 2, "rows": [[1.05, np.nan], [3.4, np.inf]]})


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([[1.2, np.nan], [3.0, np.inf]], r"worst at \(0, 0\): got 1.2, stored 1, difference 0.2"),
        ([[np.nan, np.nan], [3.0, np.inf]], "got nan, stored 1"),
        ([[1.0, 0.0], [3.0, np.inf]], "got 0, stored nan"),
        ([[1.0, np.nan], [3.0, 7.0]], "got 7, stored inf"),
        ([[1.0, np.nan]], r"shape \(1, 2\), stored \(2, 2\)"),
    ],
)
def test_a_value_out_of_tolerance_is_named(folder: GoldenFolder, rows: list, text: str) -> None:
    with pytest.raises(AssertionError, match=rf"sums.npz: rows: .*{text}"):
        folder.open("sums").check("rows", rows)


def test_an_output_left_out_fails(folder: GoldenFolder) -> None:
    with pytest.raises(AssertionError, match="never compared: rows"), folder.open("sums") as golden:
        golden.check("count", 2)
    with pytest.raises(AssertionError, match="nothing computes rows"):
        folder.open("sums").check_all({"count": 2})


def test_a_kind_without_a_reader_is_found(folder: GoldenFolder) -> None:
    assert folder.without_reader(["sums"]) == ["table.json"]
    assert folder.without_reader(["sums", "table"]) == []


def test_states_inputs_and_tables_are_read(folder: GoldenFolder) -> None:
    state = folder.state({"shapes": ["shapes.json"], "key": "one"})
    np.testing.assert_array_equal(state["w"], seeded_tensor("w", (2, 2), salt=3))
    given = folder.open("sums").input({"seeded": "image", "shape": [2, 3]})
    np.testing.assert_array_equal(given, seeded_input("image", (2, 3), salt=3))
    table = folder.open("table.json")
    assert table.check("a", [1, 2], table.json()["a"]) == 0
    with pytest.raises(AssertionError, match="1 of 2 values differ"):
        table.check("a", [1, 3], table.json()["a"])


def test_a_missing_folder_fails(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"meta\.json"):
        GoldenFolder(tmp_path / "nowhere")


def test_a_state_keeps_replaces_adds_and_drops_entries_in_this_order(folder: GoldenFolder) -> None:
    shapes = {"net.a.weight": [2, 2], "net.b.weight": [3, 3], "net.c.bias": [4], "other.weight": [1]}
    (folder.folder / "flat.json").write_text(json.dumps(shapes))
    described = {
        "shapes": ["flat.json"],
        "prefixes": ["net."],
        "replace": {"net.a.weight": [5, 2], "net.absent": [7]},
        "add": {"net.d.bias": [6]},
        "remove": ["net.b.*"],
    }
    state = folder.state(described)
    assert {name: value.shape for name, value in state.items()} == {
        "net.a.weight": (5, 2),
        "net.c.bias": (4,),
        "net.d.bias": (6,),
    }
    assert np.array_equal(state["net.c.bias"], seeded_tensor("net.c.bias", (4,), salt=3))


def test_inputs_are_drawn_or_stored_and_cut(folder: GoldenFolder) -> None:
    golden = folder.open("sums")
    drawn = golden.input({"seeded": "image", "shape": [2, 3], "slice": [[0, 1], [1, 3]]})
    assert np.array_equal(drawn, seeded_input("image", (2, 3), salt=3)[:1, 1:3])
    assert np.array_equal(golden.input({"stored": "x"}), np.ones(2))


def test_only_tolerances_given_step_by_step_widen_with_the_drift(folder: GoldenFolder) -> None:
    golden = folder.open("sums")
    golden.drift = 3.0
    assert golden.tolerance("rows").atol == pytest.approx([0.3, 1.5])
    assert golden.tolerance("count").atol == 0.0


@pytest.mark.parametrize(
    ("got", "passes"),
    [
        ([0, 0, 0, 0], True),
        ([2, 0, 0, 0], True),
        ([3, 0, 0, 0], False),
        ([1, 1, 0, 0], False),
    ],
)
def test_a_share_of_the_values_may_miss_a_tolerance_by_a_limited_amount(
    tmp_path: Path, got: list[int], passes: bool
) -> None:
    tolerance = {"rtol": 0.0, "atol": 0.0, "dtype": "uint8", "outside": {"fraction": 0.25, "atol": 2}}
    np.savez(tmp_path / "levels.npz", levels=np.zeros(4, dtype=np.uint8))
    golden = GoldenFile(tmp_path / "levels.npz", {"tolerance": {"*": tolerance}}, salt=0)
    if passes:
        golden.check("levels", got)
    else:
        with pytest.raises(AssertionError, match="values differ"):
            golden.check("levels", got)
    tolerance["outside"] = {"fraction": 0.25, "atol": None}
    if got.count(0) == 3:
        golden.check("levels", got)


def test_inputs_are_clamped_and_entries_that_are_not_seeded_are_left_out(folder: GoldenFolder) -> None:
    drawn = folder.open("sums").input({"seeded": "image", "shape": [50], "clamp": [-1.0, 0.5]})
    assert (drawn.min(), drawn.max()) == (-1.0, 0.5)
    (folder.folder / "flat.json").write_text('{"a.weight": [2], "a.index.0": [2]}')
    state = folder.state({"shapes": "flat.json", "key": None, "not_seeded": ["*.index.*"]})
    assert list(state) == ["a.weight"]
