"""How a prepared tree comes to be: built aside from its plan, renamed at the end.

A run writes into a hidden folder beside the target, keeps what is finished there when it is stopped or
killed, and moves everything in place at the end. The raw download is never written to.
"""

import json
import logging
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

from tqdm import tqdm

import adcommon
from adcommon.data.messages import SHOWN, lines
from adcommon.data.prepare.plan import Plan, Step
from adcommon.errors import BadValue, EmptySplit, OutputExists, OutputFailed, UserError
from adcommon.io.files import MARKER, atomic_write, delete, is_own, json_text, mark, plain
from adcommon.types.names import check_name

logger = logging.getLogger(__name__)

Link = Literal["copy", "hard", "symlink"]
"""How an unchanged image gets into the prepared tree."""

MANIFEST = "manifest.json"
_PLAN = "plan.txt"


def carry_out(plan: Plan, *, link: Link = "copy", force: bool = False, workers: int | None = None) -> Plan:
    """Build the tree of a plan, unless it is there already, and return the plan.

    Args:
        plan: what to build.
        link: how unchanged images get there.
        force: replaces what is in the way.
        workers: files made at the same time; by default one per processor, at most 8.

    Raises:
        EmptySplit: there is nothing to make.
        BadValue: two files would get one name, or one outside of the tree.
        OutputExists: something else is in the way, which `force` replaces only if this product made it.
        UnreadableImage: and other errors of single files, all in one message; the finished files are kept.
        OutputFailed: the disk is full, or the place cannot be written.
    """
    folder = plan.folder.resolve()
    unfinished = folder.with_name(f".{folder.name}.preparing")
    work = f"{plan.fingerprint()} {link}"
    if not force and _is_prepared(plan):
        _tidy(unfinished, folder)
        logger.info("dataset %s already prepared in %s", plan.dataset, plan.folder)
        return plan
    if not plan.steps:
        raise EmptySplit(f"nothing to prepare: no images of '{plan.dataset}' in {plan.source}")
    _refuse_names(plan)
    try:
        if not (_holds(unfinished, work) and (unfinished / MANIFEST).is_file()):  # else all is made
            _refuse_overlap(plan, force)
            _begin(unfinished, plan, work)
            _run(plan, unfinished, link, workers or min(8, os.cpu_count() or 1))
            manifest = plan.manifest() | {"version": adcommon.__version__}
            atomic_write(unfinished / MANIFEST, json_text(manifest))
        _move_in_place(unfinished, folder)
        _tidy(unfinished, folder)
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise OutputFailed(
            f"cannot write {plan.folder}: {error}\n"
            "  Mend that or choose another --target; the same command goes on where it stopped."
        ) from error
    logger.info("dataset %s files %d prepared in %s", plan.dataset, len(plan.steps), plan.folder)
    return plan


def find_prepared(dataset: str, target: Path, archives: Mapping[str, str], options: object) -> Path | None:
    """A tree, `target` or a folder in it, that was prepared from these archives with these options."""
    for folder in (target, *(target.iterdir() if target.is_dir() else ())):
        found = _read_manifest(folder)
        expected = {"dataset": dataset, "archives": archives, "options": plain(options)}
        counts = found.get("counts")
        if {name: found.get(name) for name in expected} == expected and isinstance(counts, dict):
            if all(len(list((folder / part).glob("*"))) >= count for part, count in counts.items()):
                return folder
    return None


def _is_prepared(plan: Plan) -> bool:
    """The manifest is the one this plan would write, and no file is missing."""
    found = {name: value for name, value in _read_manifest(plan.folder).items() if name != "version"}
    if found != plain(plan.manifest()):
        return False
    return all(os.path.lexists(plan.folder / step.target) for step in plan.steps)


def _read_manifest(folder: Path) -> dict[str, object]:
    """What the manifest of a prepared tree says; empty if there is none."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_names(plan: Plan) -> None:
    """Names may come from tables and archives: none may leave the tree, and no two may be the same."""
    targets = Counter(step.target for step in plan.steps)
    twice = sorted(target for target, count in targets.items() if count > 1)
    if twice:
        raise BadValue(f"{len(twice)} files would be made from several sources: {', '.join(twice[:SHOWN])}")
    for target in targets:
        parts = target.split("/")
        if {"", ".", ".."} & set(parts) or "\\" in target or "\0" in target or parts[-1].startswith("."):
            raise BadValue(f"{plan.source} names a file that cannot be made: {target!r}")
        for part in parts[:-1]:
            check_name(part, "folder", str(plan.source))


def _refuse_overlap(plan: Plan, force: bool) -> None:
    """The target must neither lie in the raw download nor, without `force`, hold files of the same names."""
    folder, source = plan.folder.resolve(), plan.source.resolve()
    if folder.is_relative_to(source):
        raise BadValue(
            f"--target {plan.folder} lies in the raw download {plan.source}; choose one outside of it"
        )
    names = sorted({step.target.split("/")[0] for step in plan.steps} | {MANIFEST})
    in_the_way = [folder / name for name in names if (folder / name).exists()]
    if in_the_way and not force:
        raise OutputExists(
            f"{plan.folder} already holds {', '.join(path.name for path in in_the_way)}\n"
            "  Choose another --target, or replace them with --force."
        )
    if any(source.is_relative_to(path) for path in in_the_way):
        raise BadValue(f"--force would delete the raw download {plan.source}; choose another --target")
    if foreign := [path.name for path in in_the_way if not _is_made_here(path)]:
        raise OutputExists(
            f"{plan.folder} holds {', '.join(foreign)}, not made by this product, so --force keeps it\n"
            "  Move that elsewhere, or choose another --target."
        )


def _is_made_here(path: Path) -> bool:
    return is_own(path) if path.is_dir() else "dataset" in _read_manifest(path.parent)


def _holds(unfinished: Path, work: str) -> bool:
    """True if a run of the same plan was interrupted here."""
    marker = unfinished / _PLAN
    return marker.is_file() and marker.read_text() == work


def _begin(unfinished: Path, plan: Plan, work: str) -> None:
    """Keep what an interrupted run of the same plan has finished, and nothing else."""
    if unfinished.exists() and not _holds(unfinished, work):
        delete(unfinished)
    if not unfinished.exists():
        unfinished.mkdir(parents=True)
        mark(unfinished)
        atomic_write(unfinished / _PLAN, work)
    for half_written in unfinished.rglob(".*"):
        if half_written.name != MARKER:
            half_written.unlink()
    for folder in plan.counts():
        (unfinished / folder).mkdir(parents=True, exist_ok=True)
    for entry in unfinished.iterdir():
        if entry.is_dir():
            mark(entry)


def _run(plan: Plan, unfinished: Path, link: Link, workers: int) -> None:
    """Make every file that is not finished, in parallel; errors of single files are collected."""
    steps = [step for step in plan.steps if not os.path.lexists(unfinished / step.target)]
    total, made = len(plan.steps), len(plan.steps) - len(steps)
    if made:
        logger.info("dataset %s resumed with %d of %d files", plan.dataset, made, total)
    errors: list[UserError] = []
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(steps), desc=f"preparing {plan.dataset}", unit="file", disable=None) as progress,
    ):
        futures = [pool.submit(_make, step, unfinished, link) for step in steps]
        try:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, UserError):
                    errors.append(error)
                elif error is not None:
                    raise error
                progress.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if errors:
        raise type(errors[0])(
            f"{len(errors)} of {total} files cannot be prepared:{lines(sorted(map(str, errors)))}\n"
            "  Mend them and run the command again; it goes on where it stopped."
        )


def _make(step: Step, unfinished: Path, link: Link) -> None:
    """Make one file beside its name, then rename it, so that a file under its name is a whole one."""
    target = unfinished / step.target
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        if step.write is not None:
            step.write(step.source, part)
        elif link == "hard":
            part.hardlink_to(step.source.resolve())
        elif link == "symlink":
            part.symlink_to(step.source.resolve())
        else:
            shutil.copyfile(step.source, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _move_in_place(unfinished: Path, folder: Path) -> None:
    """Rename the whole folder; into a folder that exists, entry by entry, the manifest last."""
    if not folder.exists():
        unfinished.rename(folder)
        return
    entries = [entry for entry in unfinished.iterdir() if entry.name not in (_PLAN, MARKER)]
    for entry in sorted(entries, key=lambda path: (path.name == MANIFEST, path.name)):
        place, old = folder / entry.name, folder / f".{entry.name}.replaced"
        delete(old)
        if place.exists():
            place.rename(old)
        entry.rename(place)
        delete(old)


def _tidy(unfinished: Path, folder: Path) -> None:
    """Remove what tells how far a run has come, now that all is in place."""
    delete(unfinished)
    (folder / _PLAN).unlink(missing_ok=True)
