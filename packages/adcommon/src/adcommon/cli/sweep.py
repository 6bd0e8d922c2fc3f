"""`ad sweep`: one training command, run for several seeds or values, each run in a process of its own.

OUT/<name>=<value>,.../   what that run leaves behind, and its output in command.log
OUT/results.json          the rows of all runs, each with its place; .csv .md .html
OUT/spread.csv, .md       mean and standard deviation over seeds

The same command again goes on where it was stopped: finished runs are kept, others are resumed.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from adcommon.errors import BadValue, Stopped
from adcommon.io.files import atomic_write, csv_columns, mark, refuse_foreign
from adcommon.io.lock import locked
from adcommon.results.rows import Row, read_results, write_results
from adcommon.results.spread import spread, spread_tables
from adcommon.results.tables import aligned, markdown
from adcommon.training.launch import Launch, failure, run_trials
from adcommon.training.logging import start_logging
from adcommon.training.recipes import flags_of
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial, find_command
from adcommon.types.names import check_name
from adcommon.types.values import Seed


def sweep(
    command: str,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    seeds: Annotated[
        tuple[Seed, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
    ] = (),
    vary: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    out: Path = Path("runs/sweep"),
    launch: Launch = Launch(),  # noqa: B008
) -> None:
    """Run a training command for several seeds or values; mean and standard deviation of what comes out.

    The same command again goes on where it was stopped. For example
    `ad sweep recontrast-train --seeds 0 1 2 --vary backbone=resnet18,resnet50 --dataset synthetic`.

    Args:
        command: A training command of an installed method.
        arguments: Its flags, the same for every run.
        seeds: Values of its --seed; short for --vary seed=0,1,2.
        vary: FLAG=VALUE,VALUE,...; with several of them every combination is run.
        out: Folder for all runs.
    """
    start_logging(None)
    pairs = (entry.partition("=") for entry in vary)
    values = {flag.removeprefix("--"): listed.split(",") for flag, _, listed in pairs}
    if seeds:
        values["seed"] = [str(seed) for seed in seeds]
    if launch.devices and {"--gpu", "--device"}.intersection(flags_of(arguments)):
        raise BadValue("--devices gives each run a GPU of its own; leave out --gpu and --device")
    program = find_command(command)
    trials = plan(program, arguments, values, out)
    for folder in (out, *(trial.folder for trial in trials)):
        refuse_foreign(folder)
    with locked(out), StopSignal() as stop:
        mark(out)
        failed = run_trials(trials, launch, out, stop)
        if stop.requested:
            raise Stopped("stopped; run the same command to go on", stop.number)
    rows: list[Row] = [
        {**row, "varied": trial.varied}
        for trial in trials
        if trial not in failed
        for row in read_results(trial.folder)
    ]
    if rows:
        write_results(out, rows)
        lines = spread(rows)
        atomic_write(out / "spread.csv", csv_columns(lines))
        made = spread_tables(lines)
        atomic_write(out / "spread.md", "\n\n".join(map(markdown, made)) + "\n")
        print("\n\n".join(map(aligned, made)))
        print(f"\nthese tables are in {out / 'spread.md'}, every run is in {out / 'results.md'}")
    if failed:
        raise failure(failed, len(trials))


def plan(program: str, arguments: Sequence[str], vary: Mapping[str, Sequence[str]], out: Path) -> list[Trial]:
    """Every combination of the values, the last flag varying fastest.

    >>> [trial.name for trial in plan("train", [], {"lr": ["0.1", "0.2"], "seed": ["0", "1"]}, Path())]
    ['lr=0.1,seed=0', 'lr=0.1,seed=1', 'lr=0.2,seed=0', 'lr=0.2,seed=1']
    """
    own = {"--out", "--resume", "--force", "--save-dir", "--save-name"}
    own |= {f"--{flag.replace('_', '-')}" for flag in vary}
    for argument in arguments:
        if argument.partition("=")[0].replace("_", "-") in own:
            raise BadValue(f"{argument} is set by the sweep for each run; leave it out")
    for flag, values in vary.items():
        if not flag or not all(values) or not values or len(set(values)) < len(values):
            raise BadValue(
                f"'{flag}' is to take the values {list(values)}; expected a flag and one or more values, "
                "each once: --vary lr=0.1,0.2"
            )
    trials = []
    for values in itertools.product(*vary.values()):
        pairs = list(zip(vary, values, strict=True))
        name = ",".join(f"{flag}={value}" for flag, value in pairs)
        check_name(name, "run")
        given = [word for flag, value in pairs for word in (f"--{flag}", value)]
        varied = ",".join(f"{flag}={value}" for flag, value in pairs if flag != "seed")
        trials.append(Trial(name, program, out / name, (*arguments, *given), varied))
    return trials
