"""What a command leaves behind: one folder for all, one below it per category.

OUT/recipe.yaml  log.txt  results.json  results.csv  results.md  results.html  tracking/
OUT/CATEGORY/metrics.csv  results.json  model/  model-best/  epochs/  resume/state.pt  maps/  tracking.json

Each of these folders carries a mark that says whose it is; none without it is written over or emptied.
"""

import csv
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, SupportsFloat

import yaml

from adcommon.errors import BadValue, OutputExists, UserError
from adcommon.io.files import (
    MARKER,
    atomic_write,
    csv_text,
    is_empty,
    is_own,
    json_text,
    mark,
    output_errors,
    plain,
    refuse_foreign,
    remove,
    remove_leftovers,
)
from adcommon.io.schema import read_yaml
from adcommon.io.text import csv_value
from adcommon.io.versions import command_line, git_commit, library_versions
from adcommon.results.rows import Row, read_results
from adcommon.training.logging import start_logging
from adcommon.training.tracking import Tracked
from adcommon.types.names import OF_A_GROUP, OF_A_RUN, TRACKED, TRACKED_RUN, check_category, check_distinct

_AFRESH = "It belongs to a run: start that afresh with --force."
_OF_A_REFUSED_RUN = (MARKER, "recipe.yaml", "log.txt", TRACKED_RUN)


class Run:
    """The folder of one category's training (or of the one model of a multi-class recipe)."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; a run that was begun in it is continued.

        Raises:
            OutputExists: it holds somebody else's files.
        """
        refuse_foreign(folder)
        mark(folder)
        self.folder = folder
        self.metrics = folder / "metrics.csv"
        self.results = folder / "results.json"
        self.model = folder / "model"
        self.best_model = folder / "model-best"
        self.epochs = folder / "epochs"
        self.state = folder / "resume" / "state.pt"
        self.maps = folder / "maps"
        self.tracked = Tracked()
        self._columns = _read_table(self.metrics)[0]

    def log(self, step: int, values: Mapping[str, SupportsFloat | None]) -> None:
        """Append a row to metrics.csv; a value seen for the first time becomes a new last column.

        Numbers are written so that they read back exactly; None leaves the cell empty.
        """
        if new := [name for name in ("step", *values) if name not in self._columns]:
            self._columns += new
            rows = [row + [""] * len(new) for row in _read_table(self.metrics)[1]]
            atomic_write(self.metrics, csv_text([self._columns, *rows]))
        cells = {"step": str(step)} | {name: _cell(value) for name, value in values.items()}
        with output_errors(self.metrics), self.metrics.open("a", encoding="utf-8", newline="") as file:
            file.write(csv_text([[cells.get(name, "") for name in self._columns]]))
        self.tracked.log(step, values)

    def log_rows(
        self, step: int, rows: Sequence[Mapping[str, float]], interim: Mapping[str, float] | None = None
    ) -> None:
        """Append the readings of the steps up to `step`; what was measured there joins the last of them."""
        for behind, row in zip(range(len(rows) - 1, -1, -1), rows, strict=True):
            self.log(step - behind, {**row, **(interim or {} if behind == 0 else {})})

    def rewind(self, step: int) -> None:
        """Set the folder back to a step (0: the start), so that metrics.csv will equal an unbroken run's.

        A resumed run calls it once, in the process that writes, before it logs.
        """
        if self._columns:
            rows = [row for row in _read_table(self.metrics)[1] if int(row[0]) <= step]
            atomic_write(self.metrics, csv_text([self._columns, *rows]))

    def last_step(self) -> int:
        """Of metrics.csv; 0 if it has none."""
        return max((int(row[0]) for row in _read_table(self.metrics)[1]), default=0)

    def finish(self, rows: Sequence[Row]) -> None:
        """Write this category's rows of the report, which marks it as done, and drop the resume state."""
        atomic_write(self.results, json_text(list(rows)))
        shutil.rmtree(self.state.parent, ignore_errors=True)

    def finished(self) -> list[dict[str, Any]] | None:
        """The rows of a category that is done; None while it is not."""
        try:
            return read_results(self.results) if self.results.exists() else None
        except BadValue as error:
            raise BadValue(f"{error}\n  {_AFRESH}") from None


class RunGroup:
    """The folder of a whole command, with one `Run` per category."""

    def __init__(
        self, folder: Path, names: Iterable[str] = (), *, resume: bool = False, force: bool = False
    ) -> None:
        """Look at the folder: empty or new, one to `resume`, or, by `force`, one to start afresh.

        Nothing is touched before `open`.

        Args:
            names: of the runs to come, so that none is a surprise after the first.

        Raises:
            OutputExists: the folder is not empty and neither was asked for, or it is somebody else's, or one
                is where a run's is to be.
            BadValue: names that cannot be folders here, or not beside each other.
        """
        self.folder = folder
        self._names = [check_category(name) for name in names]
        check_distinct(self._names, "names")
        self._resume, self._force = resume, force
        self._made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        self._is_new = self._look()

    def _look(self) -> bool:
        """True if the folder is empty or not there; an error if it cannot be used."""
        with output_errors(self.folder):
            for folder in (self.folder, *(self.folder / name for name in self._names)):
                refuse_foreign(folder)
            is_new = not self.folder.is_dir() or is_empty(self.folder)
        if not (is_new or self._resume or self._force):
            raise OutputExists(
                f"{self.folder} is not empty. Continue the run in it with --resume, delete the run and start "
                "afresh with --force, or choose another folder with --out"
            )
        return is_new

    def refuse_changed(self, recipe: object) -> None:
        """Refuse to resume a run with another recipe than its recipe.yaml says.

        Raises:
            BadValue: names each value that is another now.
        """
        file = self.folder / "recipe.yaml"
        if self._resume and file.is_file():
            before = read_yaml(file)
            if not isinstance(before, Mapping):
                raise BadValue(f"{file} holds no recipe.\n  {_AFRESH}")
            refuse_changed(self.folder, before, plain(recipe))

    def open(self) -> None:
        """Make the folder; `force` deletes what runs wrote there and nothing else.

        Call it with the folder locked: what was looked at may have changed.
        """
        self._look()
        mark(self.folder)
        with output_errors(self.folder):
            remove_leftovers(self.folder)
            if self._force:
                for below in filter(is_own, self.folder.iterdir()):
                    for name in OF_A_RUN:
                        remove(below / name)
                    if [path.name for path in below.iterdir()] == [MARKER]:
                        remove(below)
                for name in OF_A_GROUP:
                    remove(self.folder / name)

    def run(self, category: str) -> Run:
        """The run of one category; one that was begun before is continued."""
        folder = self.folder / check_category(category)
        mark(self.folder)
        return Run(folder)

    @contextmanager
    def discarded_if_refused(self) -> Iterator[None]:
        """Take back what `open` made where a user's mistake ends the block before anything was computed."""
        try:
            yield
        except UserError:
            tracked = self.folder / TRACKED
            written = [
                path for path in self.folder.rglob("*") if path.is_file() and tracked not in path.parents
            ]
            if self._is_new and all(path.name.startswith(_OF_A_REFUSED_RUN) for path in written):
                start_logging(None)  # lets go of log.txt
                shutil.rmtree(self.folder)
                for parent in self._made[1:]:
                    if not any(parent.iterdir()):
                        parent.rmdir()
            raise

    def write_recipe(self, values: object) -> None:
        """Write recipe.yaml: every resolved value, readable by `--config`; facts of the run as comments.

        Args:
            values: the recipe (a dataclass) or a mapping of flag names to values.
        """
        facts = {
            "command": command_line(),
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "commit": git_commit(Path(__file__)) or "not in a git repository",
            "versions": ", ".join(f"{name} {number}" for name, number in library_versions().items()),
        }
        comments = "".join(f"# {name}: {' '.join(text.split())}\n" for name, text in facts.items())
        body = yaml.safe_dump(plain(values), sort_keys=False, allow_unicode=True)
        atomic_write(self.folder / "recipe.yaml", comments + body)


def refuse_changed(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other values than a run was begun with.

    Raises:
        BadValue: names each value that is another now.
    """
    changed = [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if changed:
        raise BadValue(
            f"the run in {folder} was begun with other values: {'; '.join(changed)}.\n"
            "  Resume it with the same ones (its recipe.yaml works with --config), or choose another --out"
        )


def _read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Column names and complete rows; a last line that a killed process left without its end is dropped."""
    if not path.exists():
        return [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        columns, *rows = list(csv.reader(line for line in lines if line.endswith("\n"))) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadValue(f"cannot read {path}: {error}\n  {_AFRESH}") from None
    for number, row in enumerate(rows, start=2):
        if columns[0] != "step" or len(row) != len(columns) or not re.fullmatch("[0-9]{1,12}", row[0]):
            raise BadValue(
                f"{path}, line {number}: expected {len(columns)} values, the first a step\n  {_AFRESH}"
            )
    return list(map(csv_value, columns)), rows


def _cell(value: SupportsFloat | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else repr(float(value))
