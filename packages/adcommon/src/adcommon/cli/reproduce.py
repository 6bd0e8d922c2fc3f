"""`ad reproduce`: a paper's tables again, and ours beside the paper's.

OUT/PAPER/TABLE/<name>=<value>,.../   what each training leaves behind, and its output in command.log
OUT/PAPER/TABLE/estimate/...          the first training, cut short, until all are finished
OUT/PAPER/reproduced.json             ours, the paper's, the difference, and what they were made with; .md

The same command again goes on where it was stopped: finished trainings are kept, others are resumed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from adcommon.cli.reproduced import estimate, trainings, write_reproduced
from adcommon.cli.sweep import plan
from adcommon.errors import BadValue, Stopped, UserError, unknown_name
from adcommon.io.files import mark, refuse_foreign
from adcommon.io.lock import locked
from adcommon.io.places import default_root
from adcommon.methods import installed
from adcommon.results.paper import PaperTable
from adcommon.training.launch import Launch, failure, run_trials
from adcommon.training.logging import start_logging
from adcommon.training.recipes import flags_of
from adcommon.training.settings import Names
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial, find_command
from adcommon.types.values import Seed

GROUP = "adcommon.papers"
"""Entry points of the tables that methods bring: `PaperTable` by name."""


def reproduce(
    paper: str | None = None,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    table: Names = (),
    category: Names = (),
    data_root: Path | None = None,
    seeds: Annotated[
        tuple[Seed, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    out: Path = Path("runs/reproduce"),
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    launch: Launch = Launch(),  # noqa: B008
) -> None:
    """Train what a paper's tables are made of, by its recipes, and set ours beside the paper's.

    Without a paper: list what there is. The first training of each table is cut short to estimate time and
    disk before all begin. The same command again goes on where it was stopped. For example
    `ad reproduce recontrast --table mvtec --data-root data --devices 0,1,2,3`.

    Args:
        paper: A method, as `ad methods` lists it.
        arguments: Further flags of every training, after `--`; those of the recipe make it another one.
        table: Tables of the paper. [default: all]
        category: Categories of these tables, where each has a training of its own. [default: all]
        data_root: Folder that holds the datasets. [default: $AD_DATA, else ./data]
        seeds: One training for each. [default: the paper's]
        out: Folder for everything.
        dry_run: Say what would be trained, look whether the data is there, and end.
    """
    start_logging(None)
    if paper is None:
        print("\n".join(_listed(name) for name in installed(GROUP)))
        return
    if launch.devices and {"--gpu", "--device"}.intersection(flags_of(arguments)):
        raise BadValue("--devices gives each training a GPU of its own; leave out --gpu and --device")
    tables, root, folder = _chosen(paper, table, category), data_root or default_root(), out / paper
    trials = {name: _trials(name, of, folder, root, seeds, arguments) for name, of in tables.items()}
    print("\n".join(_planned(tables[name], name, own) for name, own in trials.items()))
    _refuse_missing(tables, root)
    if dry_run:
        print("the data is there; nothing was trained. Without --dry-run: an estimate first, then all")
        return
    everything = [trial for own in trials.values() for trial in own]
    for place in (folder, *(trial.folder for trial in everything)):
        refuse_foreign(place)
    with locked(folder), StopSignal() as stop:
        mark(folder)
        said = estimate(trials, launch, folder, stop)
        if not stop.requested:
            print(said)
            failed = run_trials(everything, launch, folder, stop)
        if stop.requested:
            raise Stopped("stopped; run the same command to go on", stop.number)
        print(write_reproduced(folder, paper, tables, trials, failed, arguments))
    if failed:
        raise failure(failed, len(everything))


def _tables(paper: str) -> Mapping[str, PaperTable]:
    known = installed(GROUP)
    if paper not in known:
        raise unknown_name("paper", paper, known)
    tables: Mapping[str, PaperTable] = known[paper].load()
    return tables


def _listed(paper: str) -> str:
    lines = [paper]
    for name, table in _tables(paper).items():
        known = "" if any(table.numbers.values()) else "; the paper's numbers are not in our notes"
        lines.append(f"  {name:<18} {table.title}{known}")
    return "\n".join(lines)


def _chosen(paper: str, names: Sequence[str], categories: Sequence[str]) -> dict[str, PaperTable]:
    """The tables that are asked for, with these categories alone."""
    tables = _tables(paper)
    chosen = {}
    for name in names or tables:
        if name not in tables:
            raise unknown_name(f"table of {paper}", name, tables)
        chosen[name] = table = tables[name]
        if categories:
            known = table.each.get("category", ())
            if not known:
                raise BadValue(f"table {name} has one training for all categories; leave out --category")
            for wrong in set(categories).difference(known):
                raise unknown_name(f"category of table {name}", wrong, known)
            chosen[name] = replace(table, each={**table.each, "category": tuple(categories)})
    return chosen


def _trials(
    name: str,
    table: PaperTable,
    folder: Path,
    root: Path,
    seeds: Sequence[int],
    arguments: Sequence[str],
) -> list[Trial]:
    words = (*table.flags, "--data-root", str(root), *arguments)
    values = {**table.each, "seed": tuple(map(str, seeds or (table.seed,)))}
    planned = plan(find_command(table.command), words, values, folder / name)
    return [replace(trial, name=f"{name}/{trial.name}") for trial in planned]


def _planned(table: PaperTable, name: str, trials: Sequence[Trial]) -> str:
    done = sum(trial.finished for trial in trials)
    finished = f", {done} of them finished" if done else ""
    words = " ".join([table.command, *trials[0].arguments])
    more = " ..." if len(trials) > 1 else ""
    return f"{name}: {table.title}\n  {trainings(len(trials))}{finished}: {words}{more}"


def _refuse_missing(tables: Mapping[str, PaperTable], root: Path) -> None:
    """Refuse to begin without a dataset; all that are missing are said at once."""
    from adcommon.data import load_splits

    needed: dict[str, set[str]] = {}
    for table in tables.values():
        for dataset, categories in table.data.items():
            alone = table.each.get("category", categories)
            needed.setdefault(dataset, set()).update(alone)
    problems = []
    for dataset, wanted in needed.items():
        try:
            load_splits(dataset, root, sorted(wanted))
        except UserError as error:
            problems.append(error)
    if len(problems) == len(tables) == 1:
        raise problems[0]
    if problems:
        said = "\n".join(map(str, problems))
        raise UserError(f"{said}\n  Or take the tables that need less, by --table NAME: {', '.join(tables)}")
