"""What a file says becomes a dataclass, or an error that names file, field, value and what was expected."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adcommon.errors import BadValue, UserError, WrongCheckpoint
from adcommon.io.schema import build, check_fields, read_json, read_yaml
from adcommon.types.values import Positive, Seed, Share


@dataclass(frozen=True, kw_only=True)
class Inner:
    value: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    steps: Positive = 3
    limit: Positive | None = None
    share: Share = 0.1
    rate: float = 1.0
    seed: Seed = 0
    fit: Literal["stretch", "short_side"] = "stretch"
    weights: Path | None = None
    pair: tuple[int, int] = (1, 2)
    layers: tuple[Positive, ...] = (1,)
    mean: Sequence[float] = (0.5,)
    flag: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    inner: Inner | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.share > 0.9 and self.flag:
            raise BadValue("share is too large with flag")


GOOD = {
    "name": "x", "steps": 7, "limit": None, "share": 1e-3, "weights": "a/b", "pair": [3, 4], "layers": [1, 2],
    "mean": [1, 0.5], "flag": False, "metrics": {"auroc": 0.5}, "inner": {"value": 2}, "rate": 2,
}  # fmt: skip
WRONG: dict[str, list[Any]] = {
    "name": [None, 3, ["x"]],
    "steps": ["7", 0, -1, 1.5, True, None, 2**31, 10**5000, [], {}],
    "share": [2, -0.1, float("nan"), float("inf"), "0.5"],
    "rate": [float("nan"), float("-inf"), "1", None],
    "seed": [-1, 2**32],
    "fit": ["evil", 1, None],
    "weights": [3, ["a"]],
    "pair": [3, [1], [1, 2, 3], ["a", "b"]],
    "layers": [[0], 1, [1] * 10_001],
    "mean": ["abc", [float("nan")], [["a"]]],
    "flag": [0, "yes"],
    "metrics": [[], {"auroc": "x"}],
    "inner": [3, {"value": "x"}, {"other": 1}],
}


def test_lists_become_tuples_and_text_paths() -> None:
    made = build(Outer, json.loads(json.dumps(GOOD)), "config.json")
    assert made.pair == (3, 4)
    assert made.layers == (1, 2)
    assert made.weights == Path("a/b")
    assert made.inner == Inner(value=2)


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name in WRONG for place in range(len(WRONG[name]))]
)
def test_a_wrong_value_is_named_with_file_and_field(name: str, place: int) -> None:
    value = WRONG[name][place]
    with pytest.raises(WrongCheckpoint, match=rf"config\.json.*recipe\.{name}") as error:
        build(Outer, {**GOOD, name: value}, "config.json", error=WrongCheckpoint, prefix="recipe.")
    assert len(str(error.value)) < 300


def test_unknown_and_missing_fields_and_values_that_do_not_go_together() -> None:
    with pytest.raises(
        BadValue, match=r"config\.json: unknown field 'new'; was it written by a newer version"
    ):
        build(Outer, {**GOOD, "new": 1}, "config.json")
    with pytest.raises(BadValue, match=r"config\.json: the field name is missing"):
        build(Outer, {}, "config.json")
    with pytest.raises(BadValue, match=r"config\.json is \[\]; expected an object"):
        build(Outer, [], "config.json")
    with pytest.raises(BadValue, match=r"config\.json: share is too large with flag"):
        build(Outer, {"name": "x", "share": 1.0}, "config.json")


def test_values_of_python_are_checked_alike() -> None:
    Outer(name="x", weights=Path("w"), mean=(1, 2))
    with pytest.raises(BadValue, match="steps is 0; expected a whole number from 1 to 2147483647"):
        Outer(name="x", steps=0)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(WRONG)), values)
def test_any_value_is_taken_or_refused(name: str, value: object) -> None:
    with suppress(UserError):
        build(Outer, {**GOOD, name: value}, "config.json")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: !!python/object/apply:os.system [true]", "line 1: could not determine a constructor"),
        (b"seed: 1\nb: [1", "line 2: "),
        (b"a: b: c", "line 1: mapping values"),
        (b"a: \xff", "it is not text in UTF-8"),
        (b"a: \x00", "special characters"),
        (b"[" * 5000, "nested too deep"),
        (b"a: 2020-99-99", "month must be"),
        (b"? [1]\n: 2", "line 1: found unhashable key"),
        (b"a: 1\n---\nb: 2", "line 2: but found another document"),
        (LAUGHS.encode(), "repeats its values by anchors"),
        (b"a: &a [*a]", "repeats its values by anchors"),
        (b"x: &x {a: 1}\ny: {<<: *z}", "line 2: found undefined alias"),
        (b"#" * (2**20 + 1), "bytes; expected YAML of at most"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_what_is_no_yaml_is_one_error_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_bytes(content)
    with pytest.raises(BadValue, match=rf"recipe\.yaml.*{message}"):
        read_yaml(file)


def test_yaml_with_a_few_anchors_is_read(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("\ufeffa: &a {x: [1, 2.5, null]}\nb: {<<: *a, y: yes}\n", encoding="utf-8")
    assert read_yaml(file) == {"a": {"x": [1, 2.5, None]}, "b": {"x": [1, 2.5, None], "y": True}}
    file.write_text("")
    assert read_yaml(file) is None
    with pytest.raises(BadValue, match="No such file"):
        read_yaml(tmp_path / "missing.yaml")


@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!?|>'\"\n #,0", max_size=60).map(str.encode))
def test_any_yaml_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content)
    with suppress(BadValue):
        read_yaml(file)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1}}', b"<html>"])
def test_what_is_no_json_is_one_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(WrongCheckpoint, match=r"cannot read .*config\.json"):
        read_json(file, error=WrongCheckpoint)
    with pytest.raises(BadValue, match="No such file"):
        read_json(tmp_path / "missing.json")
