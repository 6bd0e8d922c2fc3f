"""What a command leaves behind: one folder for all, one below it per category.

OUT/recipe.yaml  log.txt  results.json  results.csv  results.md  results.html  tracking/
OUT/CATEGORY/metrics.csv  speed.csv  trace.json.gz  results.json  model/  model-best/  epochs/
OUT/CATEGORY/resume/state.pt  maps/  tracking.json

Each of these folders carries a mark that says whose it is; none without it is written over or emptied.
"""

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
from adcommon.io.versions import command_line, git_commit, library_versions
from adcommon.results.rows import Row, read_results
from adcommon.training.logging import start_logging
from adcommon.training.table import AFRESH, StepTable
from adcommon.training.tracking import Tracked
from adcommon.types.names import OF_A_GROUP, OF_A_RUN, TRACKED, TRACKED_RUN, check_category, check_distinct

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
        self.speed = folder / "speed.csv"
        self.trace = folder / "trace.json.gz"
        self.results = folder / "results.json"
        self.model = folder / "model"
        self.best_model = folder / "model-best"
        self.epochs = folder / "epochs"
        self.state = folder / "resume" / "state.pt"
        self.maps = folder / "maps"
        self.tracked = Tracked()
        self._metrics, self._speed = StepTable(self.metrics), StepTable(self.speed)

    def log(
        self,
        step: int,
        values: Mapping[str, SupportsFloat | None],
        speed: Mapping[str, SupportsFloat | None] | None = None,
    ) -> None:
        """Append a row to metrics.csv, and the figures of `speed` to speed.csv; see `StepTable.append`.

        Times differ from run to run: so they have a file of their own, and metrics.csv stays the same to the
        byte. A tracker gets them together, `speed/` before the names of the figures.
        """
        self._metrics.append(step, values)
        if speed:
            self._speed.append(step, speed)
        figures = {f"speed/{name}": value for name, value in (speed or {}).items()}
        self.tracked.log(step, {**values, **figures})

    def log_rows(
        self,
        step: int,
        rows: Sequence[Mapping[str, float]],
        interim: Mapping[str, float] | None = None,
        speed: Mapping[str, float | None] | None = None,
    ) -> None:
        """Append the readings of the steps up to `step`; what was measured there joins the last of them."""
        for number, row in enumerate(rows[:-1], start=step - len(rows) + 1):
            self.log(number, row)
        self.log(step, {**rows[-1], **(interim or {})}, speed)

    def rewind(self, step: int) -> None:
        """Set the folder back to a step (0: the start), so that metrics.csv will equal an unbroken run's.

        A resumed run calls it once, in the process that writes, before it logs.
        """
        self._metrics.rewind(step)
        self._speed.rewind(step)

    def last_step(self) -> int:
        """Of metrics.csv; 0 if it has none."""
        return self._metrics.last_step()

    def finish(self, rows: Sequence[Row]) -> None:
        """Write this category's rows of the report, which marks it as done, and drop the resume state."""
        atomic_write(self.results, json_text(list(rows)))
        shutil.rmtree(self.state.parent, ignore_errors=True)

    def finished(self) -> list[dict[str, Any]] | None:
        """The rows of a category that is done; None while it is not."""
        try:
            return read_results(self.results) if self.results.exists() else None
        except BadValue as error:
            raise BadValue(f"{error}\n  {AFRESH}") from None


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
                raise BadValue(f"{file} holds no recipe.\n  {AFRESH}")
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
