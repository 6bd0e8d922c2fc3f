"""What a command leaves behind: one folder for all, one below it per category.

OUT/recipe.yaml  log.txt  results.json  results.csv  results.md  results.html
OUT/CATEGORY/metrics.csv  results.json  model/  model-best/  epochs/  resume/state.pt  maps/

Nothing else writes while training.
"""

import csv
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, SupportsFloat

import yaml

from adcommon.errors import OutputExists
from adcommon.io.files import (
    atomic_write,
    csv_text,
    delete,
    json_text,
    output_errors,
    plain,
    remove_leftovers,
)
from adcommon.io.versions import command_line, git_commit, library_versions
from adcommon.results.rows import Row, read_results

_OF_A_GROUP = ("recipe.yaml", "log.txt", "results.json", "results.csv", "results.md", "results.html")
_OF_A_RUN = ("metrics.csv", "results.json", "model", "model-best", "epochs", "resume", "maps")


class Run:
    """The folder of one category's training (or of the one model of a multi-class recipe)."""

    def __init__(self, folder: Path) -> None:
        """Make the folder; a run that was begun in it is continued."""
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.metrics = folder / "metrics.csv"
        self.results = folder / "results.json"
        self.model = folder / "model"
        self.best_model = folder / "model-best"
        self.epochs = folder / "epochs"
        self.state = folder / "resume" / "state.pt"
        self.maps = folder / "maps"
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
        remove_leftovers(self.folder)
        remove_leftovers(self.state.parent)
        if self._columns:
            rows = [row for row in _read_table(self.metrics)[1] if int(row[0]) <= step]
            atomic_write(self.metrics, csv_text([self._columns, *rows]))

    def finish(self, rows: Sequence[Row]) -> None:
        """Write this category's rows of the report, which marks it as done, and drop the resume state."""
        atomic_write(self.results, json_text(list(rows)))
        shutil.rmtree(self.state.parent, ignore_errors=True)

    def finished(self) -> list[dict[str, Any]] | None:
        """The rows of a category that is done; None while it is not."""
        return read_results(self.results) if self.results.exists() else None


class RunGroup:
    """The folder of a whole command, with one `Run` per category."""

    def __init__(self, folder: Path, *, resume: bool = False, force: bool = False) -> None:
        """Open an empty or new folder, or an existing one to `resume` or, by `force`, to start afresh.

        `force` deletes what runs wrote there and nothing else.

        Raises:
            OutputExists: the folder is not empty and neither was asked for.
        """
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if force:
                for below in folder.iterdir():
                    if below.is_dir() and any((below / name).exists() for name in _OF_A_RUN):
                        for name in _OF_A_RUN:
                            delete(below / name)
                        if not any(below.iterdir()):
                            below.rmdir()
                for name in _OF_A_GROUP:
                    delete(folder / name)
            elif not resume and any(folder.iterdir()):
                raise OutputExists(
                    f"{folder} is not empty. Continue the run in it with --resume, delete the run and start "
                    "afresh with --force, or choose another folder with --out"
                )
        self.folder = folder

    def run(self, category: str) -> Run:
        """The run of one category; one that was begun before is continued."""
        return Run(self.folder / category)

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


def _read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Column names and complete rows; a last line that a killed process left without its end is dropped."""
    if not path.exists():
        return [], []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    columns, *rows = list(csv.reader(complete)) or [[]]
    return columns, rows


def _cell(value: SupportsFloat | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else repr(float(value))
