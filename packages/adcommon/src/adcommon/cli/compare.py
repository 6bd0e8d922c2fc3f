"""`ad compare`: every method on the same images, in the time that there is, and which of them to use.

OUT/METHOD/...            what its training leaves, and what it said in command.log
OUT/METHOD/compared.json  its scores of the test images, and what scoring costs
OUT/images/               the test images, small
OUT/data/                 where no defect is known: normal images with pasted ones
OUT/index.html            the table, and the same images side by side; OUT/comparison.md the table alone

The same command again goes on where it was stopped: what was measured is kept.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from adcommon.cli.app import Files, from_files
from adcommon.errors import BadValue, OutputExists, Stopped, UserError, unknown_name
from adcommon.io.lock import locked
from adcommon.io.outputs import clear, refuse_held
from adcommon.io.places import default_root
from adcommon.methods import FLOOR, commands, installed
from adcommon.training.launch import Launch, run_trials
from adcommon.training.logging import start_logging
from adcommon.training.settings import Names
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial, find_command, last_line
from adcommon.types.names import JOBS, LOG
from adcommon.types.records import Split
from adcommon.types.threshold import RATE
from adcommon.types.values import AboveZero, Count, Positive, Rate, Side

logger = logging.getLogger(__name__)

WRITTEN = ("images", "truth", "data", "index.html", "comparison.md", JOBS)
"""What a comparison leaves in its folder beside one folder for each method."""
PROXY_SHARE = 0.25
"""Of the normal images, that get a pasted defect where no other is known."""
TRAINING_SHARE = 0.6
"""Of a method's time, for the steps of its training; the rest is for reading and measuring."""


def compare(
    *,
    config: Files = (),
    data: Path | None = None,
    dataset: str | None = None,
    data_root: Path | None = None,
    category: str | None = None,
    good: Names = (),
    bad: Names = (),
    masks: Names = (),
    methods: Names = (),
    minutes: AboveZero = 20.0,
    recipe: str = "small",
    image_size: Annotated[Side | None, Parameter(show_default=False)] = None,
    tile: Positive | None = None,
    overlap: Count | None = None,
    false_alarm_rate: Rate = RATE,
    out: Path = Path("runs/compare"),
    device: Annotated[str | None, Parameter(show_default=False)] = None,
    force: bool = False,
    launch: Launch = Launch(),  # noqa: B008
) -> None:
    """Train every method on the same images, in the time that there is, and say which one to use.

    What needs no training comes first; each method has an equal share of the time that is left, a longer one
    where several are trained at once. The same command goes on where it was stopped. Where no defect is
    known, pieces of other images are pasted into normal ones that were kept out of training.

    Args:
        config: YAML file with any of these flags, such as `ad init` writes; the last of several wins.
        data: A folder of my own images, or a list of them.
        dataset: Or a dataset, as `ad datasets` lists it.
        data_root: Folder that holds the datasets. [default: $AD_DATA, else ./data]
        category: Which category, where there are several.
        good: Folders of normal images among my own, by name or path, where their names do not say it.
        bad: Folders of anomalous ones.
        masks: Folders of masks.
        methods: To compare. [default: all that are installed]
        minutes: For everything.
        recipe: Of every method's training command.
        image_size: Side of the images that the networks see, pixels. [default: the recipe's]
        tile: Side of the squares that photographs are cut into, their own pixels; few-shot methods are not
            trained on tiles, and left out then. [default: whole]
        overlap: Pixels that neighbouring tiles share at least. [default: an eighth of a tile]
        false_alarm_rate: Rate at which normal images may be called anomalous.
        out: Folder for everything.
        device: Device by its torch name: cpu, cuda:1, mps. [default: the first GPU if there is one]
        force: Delete an earlier comparison in the folder.
    """
    from adcommon.data import load_splits
    from adcommon.data.sources.meaning import Meaning

    start_logging(None)
    deadline = time.monotonic() + 60 * minutes
    if (data is None) == (dataset is None):
        raise BadValue("give --data DIR, a folder of my own images, or --dataset NAME")
    if launch.devices and device:
        raise BadValue("--devices gives each method a GPU of its own; leave out --device")
    programs = _programs(methods)
    root = data or data_root or default_root()
    meaning, wanted = Meaning(good, bad, masks), () if category is None else (category,)
    splits = load_splits("folder" if data else str(dataset), root, wanted, meaning=meaning)
    if len(splits) > 1:
        raise BadValue(f"there are several categories; choose one with --category: {', '.join(splits)}")
    (split,) = splits.values()
    where = ["--data", str(data), *(["--category", category] if category else [])]
    for flag, values in (("--good", good), ("--bad", bad), ("--masks", masks)):
        where += [flag, *values] if values else []
    written = (*installed(), *WRITTEN)
    with locked(out), StopSignal() as stop:
        refuse_held(out, written, wanted=True, remedy="")
        clear(out, written if force else ())
        if proxy := not any(record.label for record in split.test):
            split = _with_proxies(split, out / "data", own_size=tile is not None)
        if proxy or dataset is not None:
            where = ["--data", str(_listed_in(out / "data", split))]
        if not split.train or {record.label for record in split.test} != {0, 1}:
            raise BadValue("a comparison needs normal images to train with, and normal ones to test with")
        flags = ["--recipe", recipe, *where, "--false-alarm-rate", f"{false_alarm_rate:g}"]
        chosen = {"--device": device, "--image-size": image_size, "--tile": tile, "--overlap": overlap}
        for flag, value in chosen.items():
            flags += [] if value is None else [flag, str(value)]
        trials = {name: Trial(name, program, out / name, tuple(flags)) for name, program in programs.items()}
        _refuse_others(trials, split)
        failed = _run_all(trials, split, false_alarm_rate, deadline, launch, out, stop)
        if stop.requested:
            raise Stopped("stopped; run the same command to go on", stop.number)
        if len(failed) == len(trials):
            raise UserError(f"no method was measured:\n{_listed(failed)}")
        from adcommon.cli.compared import report

        print(report(out, [name for name in programs if name not in failed], split, proxy=proxy))
    if failed:
        print(f"not measured:\n{_listed(failed)}\n  The same command with more --minutes goes on with them.")


app = App(name="compare", default_command=compare, config=from_files)


def _refuse_others(trials: Mapping[str, Trial], split: Split) -> None:
    """Refuse to go on with what was measured with other flags, or on other images."""
    from adcommon.cli.compared import is_of, measured

    for trial in trials.values():
        if (facts := measured(trial)) is not None and not (trial.finished and is_of(facts, split)):
            raise OutputExists(
                f"{trial.folder.parent} compares something else: other images, or other flags. Start afresh "
                "with --force, or choose another --out"
            )


def _programs(methods: Sequence[str]) -> dict[str, str]:
    """The training command of each method, those that train nothing first."""
    known = {name: f"{name}-train" for name in installed() if f"{name}-train" in commands(name)}
    for name in methods:
        if name not in known:
            raise unknown_name("method", name, known)
    floor = installed(FLOOR)
    names = sorted(methods or known, key=lambda name: name not in floor)
    return {name: find_command(known[name]) for name in dict.fromkeys(names)}


def _with_proxies(split: Split, folder: Path, *, own_size: bool) -> Split:
    """Normal images, some with pasted defects; drawn once."""
    from adcommon.data.lists.manifest import TABLE, read_manifest
    from adcommon.evaluation.proxy import with_proxies

    if (folder / TABLE).exists():
        (known,) = read_manifest(folder / TABLE).values()
        return known
    return with_proxies([*split.train, *split.test], folder, share=PROXY_SHARE, seed=0, own_size=own_size)


def _listed_in(folder: Path, split: Split) -> Path:
    """A list of the images, which every training command reads."""
    from adcommon.data.lists.manifest import write_manifest

    (table,) = write_manifest("csv", folder, {split.category: split}, folder)
    return table


def _run_all(
    trials: Mapping[str, Trial],
    split: Split,
    false_alarm_rate: float,
    deadline: float,
    launch: Launch,
    folder: Path,
    stop: StopSignal,
) -> dict[str, str]:
    """Train and measure what was not measured before; those that failed, and why."""
    from adcommon.cli.compared import measure, measured

    failed: dict[str, str] = {}
    waiting = [name for name, trial in trials.items() if measured(trial) is None]
    if not waiting:
        return failed
    at_once = launch.at_once if launch.launcher == "local" or launch.jobs else len(waiting)
    groups = [[name] for name in waiting] if at_once == 1 else [waiting]
    for number, names in enumerate(groups):
        left = max(0.0, deadline - time.monotonic())
        minutes = left / 60 / (len(groups) - number) / math.ceil(len(names) / at_once)
        group = [_within(TRAINING_SHARE * minutes, trials[name]) for name in names]
        wrong: list[Trial] = []
        if left and not all(trial.finished for trial in group):
            logger.info("%s: at most %.1f minutes each", ", ".join(names), minutes)
            wrong = run_trials(group, launch, folder, stop, deadline=deadline)
        for trial in group:
            if stop.requested:
                return failed
            if trial in wrong:
                failed[trial.name] = f"{last_line(trial)} ({trial.folder / LOG})"
            elif not trial.finished:
                failed[trial.name] = "there was no time left"
            else:
                measure(trial, split, false_alarm_rate)
    return failed


def _within(minutes: float, trial: Trial) -> Trial:
    """A training that may take so many minutes for its steps, if it has any."""
    further = () if trial.name in installed(FLOOR) else ("--minutes", f"{minutes:.3f}")
    return replace(trial, further=further)


def _listed(failed: Mapping[str, str]) -> str:
    return "\n".join(f"  {name}: {why}" for name, why in failed.items())
