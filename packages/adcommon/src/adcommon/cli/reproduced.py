"""What a reproduction will take, and what came out of it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adcommon.io.files import atomic_write, json_text, remove
from adcommon.io.model_folder import read_config
from adcommon.io.versions import git_commit
from adcommon.results.paper import PaperTable, beside, table_beside
from adcommon.results.rows import read_results
from adcommon.results.tables import aligned, markdown
from adcommon.training.launch import Launch, failure, run_trials
from adcommon.training.recipes import flags_of
from adcommon.training.stop import StopSignal
from adcommon.training.trials import Trial, cut_short, in_log

TRIAL_MINUTES = 0.5
"""Of steps, that an estimate is made of."""
_SAME_NUMBERS = {
    *("--gpu", "--device", "--workers", "--cache", "--no-cache", "--maps", "--note", "--save-every"),
    *("--track", "--profile"),
}
"""Flags that leave a recipe what it is."""


def estimate(trials: Mapping[str, Sequence[Trial]], launch: Launch, folder: Path, stop: StopSignal) -> str:
    """Time and disk of what is not finished, in words.

    The first training of each table is run where all will run, for half a minute of steps and one evaluation,
    which also shows what is missing; the other steps are taken to be as fast, other trainings as long.

    Raises:
        UserError: one of them failed; nothing else was begun.
    """
    waiting = {name: sum(not trial.finished for trial in own) for name, own in trials.items()}
    samples = {name: _sample(trials[name][0]) for name, count in waiting.items() if count}
    failed = run_trials(list(samples.values()), launch, folder, stop)
    if failed:
        raise failure(failed, len(samples))
    if stop.requested:
        return ""
    lines, seconds, gigabytes = [], 0.0, 0.0
    for name, sample in samples.items():
        each, size, measured = _measured(sample)
        count = waiting[name]
        seconds += count * each
        gigabytes += count * size / 1e9
        lines.append(f"{name}: {trainings(count)} of about {_lasting(each)} ({measured})")
    if lines:
        at_once = f", {launch.at_once} at a time" if launch.at_once > 1 else ""
        free = shutil.disk_usage(folder).free / 1e9
        lines.append(
            f"estimate: {_lasting(seconds / launch.at_once)}{at_once}, starts and evaluations on the way not "
            f"counted; {gigabytes:.2f} GB on disk at least, {free:.0f} GB are free"
        )
    return "\n".join(lines)


def trainings(count: int) -> str:
    """How many, in words."""
    return f"{count} training{'s' * (count > 1)}"


def _lasting(seconds: float) -> str:
    """A duration in words.

    >>> _lasting(12.3), _lasting(1280.0), _lasting(72000.0)
    ('12 s', '21.3 minutes', '20.0 hours')
    """
    unit, size = ("s", 1) if seconds < 60 else ("minutes", 60) if seconds < 3600 else ("hours", 3600)
    return f"{seconds / size:.{0 if size == 1 else 1}f} {unit}"


def _sample(trial: Trial) -> Trial:
    folder = trial.folder.parent / "estimate" / trial.folder.name
    words = (*trial.arguments, "--minutes", str(TRIAL_MINUTES))
    return Trial(f"{trial.name}, cut short", trial.program, folder, words)


def _measured(sample: Trial) -> tuple[float, int, str]:
    """Seconds and bytes of a whole training, and what they were taken from."""
    seconds = max(row["seconds"] for row in read_results(sample.folder))
    size = sum(path.stat().st_size for path in sample.folder.rglob("*") if path.is_file())
    if (cut := cut_short(sample)) is None:
        return seconds, size, "measured: one of them"
    done, total, spent = int(cut["last"]), int(cut["all"]), float(cut["seconds"])
    whole = seconds + (total - done) * spent / done
    return whole, size, f"measured: {done} of {total} steps in {spent:.0f} s, {seconds - spent:.0f} s besides"


def write_reproduced(
    folder: Path,
    paper: str,
    tables: Mapping[str, PaperTable],
    trials: Mapping[str, Sequence[Trial]],
    failed: Sequence[Trial],
    further: Sequence[str],
) -> str:
    """Write reproduced.md and reproduced.json; the tables for a terminal.

    Args:
        failed: left out.
        further: flags that the paper's recipes do not have.
    """
    kept: list[dict[str, Any]] = []
    made = []
    for name, table in tables.items():
        done = [trial for trial in trials[name] if trial not in failed]
        rows = [row for trial in done for row in read_results(trial.folder)]
        if not rows:
            continue
        notes = [f"{len(done)} of {trainings(len(trials[name]))} ended well."]
        if further:
            changed = "Made" if flags_of(further) <= _SAME_NUMBERS else "Not the paper's recipe:"
            notes.append(f"{changed} with {' '.join(further)}")
        notes.append(f"Rows of protocol {table.protocol}, selection {table.selection}.")
        if any(row["weights"] == "random" for row in rows):
            notes.append("!!! RANDOM BACKBONE WEIGHTS: these numbers say nothing about the method !!!")
        found = beside(rows, table)
        made.append(table_beside(found, table, notes))
        (config, *_) = sorted(done[0].folder.glob("*/model"))
        facts, device = read_config(config), in_log(done[0], "device (.+)")
        kept.append(
            {
                "table": name,
                "title": table.title,
                "command": [table.command, *table.flags, *further],
                "protocol": table.protocol,
                "selection": table.selection,
                "recipe": facts["recipe"],
                "versions": facts["versions"],
                "commit": git_commit(Path(__file__)),
                "device": device[1] if device else None,
                "trainings": [{"name": trial.name, "rows": read_results(trial.folder)} for trial in done],
                "failed": [trial.name for trial in trials[name] if trial in failed],
                "numbers": found,
            }
        )
        if not failed:
            remove(folder / name / "estimate")
    atomic_write(folder / "reproduced.json", json_text({"paper": paper, "tables": kept}))
    atomic_write(folder / "reproduced.md", "\n\n".join(map(markdown, made)) + "\n")
    return "\n\n".join([*map(aligned, made), f"to send in: {folder / 'reproduced.json'}"])
