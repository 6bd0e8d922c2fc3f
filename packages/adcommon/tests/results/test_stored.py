import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from adcommon.errors import BadValue
from adcommon.results.rows import read_results, row, write_results
from adcommon.results.stored import StoredRow, stored_rows
from adcommon.testing.alterations import sample
from adcommon.types.facts import Facts
from adcommon.types.records import Evaluation

ROW: dict[str, Any] = row(
    Evaluation(
        category="bolt",
        normal=3,
        anomalous=2,
        image_auroc=0.75,
        image_ap=1.0,
        image_f1max=float("nan"),
        image_threshold=0.1,
        pixel_auroc=0.5,
        map_size="64x64",
        extra={"image_accuracy": 0.5},
    ),
    Facts(
        method="m",
        dataset="folder",
        setting="few-shot",
        backbone="b",
        weights="random",
        seed=1,
        references="0",
    ),
    seconds=0.5,
)


def test_every_row_that_is_written_is_read(tmp_path: Path) -> None:
    assert ROW.keys() <= StoredRow.__dataclass_fields__.keys()
    assert stored_rows([ROW], "it") == [ROW]
    write_results(tmp_path, [{**ROW, "varied": "lr=0.1"}])
    assert read_results(tmp_path)[0]["image_auroc"] == 0.75


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_auroc": 75}, "row 0: image_auroc is 75; expected a finite number"),
        ({"category": ["a"]}, r"row 0: category is \['a'\]; expected text"),
        ({"extra": [1]}, r"row 0: extra is \[1\]; expected an object"),
        ({"normal": -1}, "row 0: normal is -1; expected a whole number"),
        ({"new": 1}, "row 0: unknown field 'new'; was it written by a newer version"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_row(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(BadValue, match=f"results.json, {message}"):
        stored_rows([{**ROW, **changed}], "runs/results.json")


def test_any_rows_are_reported_or_refused(tmp_path: Path) -> None:
    for number, (_, rows) in enumerate(sample([ROW], 400)):
        file = tmp_path / "results.json"
        file.write_text(json.dumps(rows))
        with suppress(BadValue):
            read = read_results(file)
            if number % 10 == 0:
                write_results(tmp_path / "report", read)
