"""Images that appear in a folder -> rows of a log, sorted files, a command that is told: once each."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from adcommon.deploy.model import Model
from adcommon.deploy.predict import LONGEST_SIDE, MAPS
from adcommon.deploy.result import Result
from adcommon.deploy.watch.arrivals import PATIENCE, Arrivals, Known, digest, signature
from adcommon.deploy.watch.log import Entry, Log, open_log
from adcommon.deploy.watch.outcome import move, tell
from adcommon.errors import BadValue, UnreadableImage
from adcommon.io.files import mark, refuse_unwritable, remove_leftovers
from adcommon.io.lock import locked
from adcommon.io.outputs import refuse_held
from adcommon.io.text import printable
from adcommon.results.drawing import draw
from adcommon.results.picture_names import picture_names
from adcommon.results.pictures import write_jpeg

logger = logging.getLogger(__name__)

LOG = "log.jsonl"
PLACES = ("normal", "anomalous", "unfamiliar", "error")
"""Folders that images are sorted into."""
ALARMING = ("anomalous", "unfamiliar")
"""Decisions that a command is told of."""
_STATUS_EVERY_S = 60
_NAP_S = 0.2
_NAMES = {
    "look": "looking into the folder",
    "picture": "drawing",
    "command": "the command",
    "log": "writing the log",
    "move": "moving",
}
"""What may go wrong for a while."""


def refuse_places(folder: Path, out: Path, log: Path, move_to: Path | None) -> None:
    """Refuse folders that cannot be watched, or written to, before anything is loaded.

    Raises:
        UserError: says which.
    """
    if not folder.is_dir():
        raise BadValue(f"no folder at {folder}; expected the one that images arrive in")
    for flag, place in (("--out", out), ("--move-to", move_to)):
        if place is not None and folder.resolve().is_relative_to(place.resolve()):
            raise BadValue(f"{flag} {place} holds the watched folder {folder}; choose another one")
    refuse_held(out, (MAPS, LOG, log.name, f"{log.name}-journal"), wanted=True, remedy="")
    open_log(log)
    refuse_unwritable(log, None if move_to is None else move_to / LOG)


def watch(
    model: Model,
    folder: Path,
    out: Path,
    *,
    log: Path,
    move_to: Path | None = None,
    on_anomaly: Sequence[str] = (),
    maps: bool = True,
    interval_s: float = 1.0,
    timeout_s: float = 10.0,
    batch_size: int = 8,
    workers: int = 2,
    once: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Counter[str]:
    """Score every image that lies in a folder, at any depth, or appears there, until it is told to stop.

    An image is a path and what lies there. It is scored when its file did not change between two looks, and
    once: what has a line in the log is not scored again, whatever happened in between, unless the file at the
    path gets another content. A file that cannot be read is tried again for ten looks before it is an error.

    Args:
        out: folder for the pictures, and for `log` unless that is elsewhere.
        log: see `open_log`.
        move_to: folder whose sub-folders `PLACES` get the images that have a line.
        on_anomaly: words of a command, see `tell`; run for each anomalous or unfamiliar image before its line
            is written and before it is moved.
        maps: write a picture of each of these, if the method has anomaly maps.
        interval_s: between two looks, seconds.
        timeout_s: a command that takes longer is ended.
        batch_size: images scored at once.
        workers: threads that decode images.
        once: end when all that is there is judged; what still changes after ten looks is left.
        stop: asked after every image; True ends in good order.

    Returns:
        How many images were judged, by `Entry.place`.

    Raises:
        OutputExists: another process writes the log or `out`.
    """
    refuse_places(folder, out, log, move_to)
    with ExitStack() as held:
        held.enter_context(locked(out))
        held.enter_context(locked(log.parent, log.name))
        mark(out)
        remove_leftovers(out)
        lines = open_log(log)
        known = {entry.path: Known.of(entry) for entry in lines.entries()}
        logger.info("watching %s; %s has %d of its images", printable(folder), log, len(known))
        without = [out] if move_to is None else [out, move_to]
        arrivals = Arrivals(folder.absolute(), without, known)
        watched = _Watch(model, arrivals, out, lines, move_to, on_anomaly, maps, interval_s, timeout_s, stop)
        watched.run(batch_size, workers, once)
    return watched.counts


def shown(counts: Counter[str]) -> str:
    """How many images there were, in words.

    >>> shown(Counter(normal=7, error=1))
    '8 images: 7 normal, 1 error'
    """
    parts = ", ".join(f"{count} {place}" for place, count in counts.most_common())
    return f"{counts.total()} images: {parts}" if parts else "no new images"


@dataclass
class _Watch:
    """What is known while a folder is watched; the first fields are the arguments of `watch`."""

    model: Model
    arrivals: Arrivals
    out: Path
    log: Log
    move_to: Path | None
    on_anomaly: Sequence[str]
    maps: bool
    interval_s: float
    timeout_s: float
    stop: Callable[[], bool]
    counts: Counter[str] = field(default_factory=Counter)
    troubles: set[str] = field(default_factory=set)
    """What went wrong last time, and was said."""

    def run(self, batch_size: int, workers: int, once: bool) -> None:
        said, said_at, looks = 0, time.monotonic(), 0
        while not self.stop():
            began = time.monotonic()
            ready, judged = self.arrivals.look()
            took_s = time.monotonic() - began
            self.say("look", "cannot look into the folder; waiting for it" if self.arrivals.is_gone else None)
            for path, known in judged:
                self.sort(path, known)
            for result in self.model.stream(ready, batch_size=batch_size, workers=workers) if ready else ():
                self.judge(result)
                if self.stop():
                    return
            looks += 1
            left = len(self.arrivals.waiting)
            if once and (not left or looks > PATIENCE):
                if left:
                    logger.warning("%d files are still being written, and were left", left)
                return
            if self.counts.total() > said and began > said_at + _STATUS_EVERY_S:
                said, said_at = self.counts.total(), began
                logger.info("%s", shown(self.counts))
            # Twice as long where very many files lie: half of the time is the network's.
            self.pause(began + max(self.interval_s, 2 * took_s) - time.monotonic())

    def judge(self, result: Result) -> None:
        """Do with an image all that is to be done, unless its file changed meanwhile or may still change."""
        assert result.path is not None
        path, file = result.path, self.arrivals.waiting[result.path]
        content = digest(path)
        unreadable = result.error is not None or content is None
        if signature(path) != file.signature or (unreadable and file.looks < PATIENCE):
            return
        promise = self.model.promise
        entry = Entry(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            path=printable(path),
            score=result.score,
            p_value=result.p_value,
            threshold=result.threshold,
            false_alarm_rate=None if promise is None else promise.false_alarm_rate,
            decision=result.decision,
            unfamiliar=result.unfamiliar,
            error=None if result.error is None else " ".join(result.error.split()),
            size=file.signature[0],
            modified_ns=file.signature[1],
            digest=content,
        )
        if entry.place != "normal":
            about = entry.error or entry.unfamiliar or f"score {entry.score:.6g}"
            logger.info("%s: %s: %s", entry.place, entry.path, about)
        if entry.place in ALARMING:
            self.draw(result, entry)
            if self.on_anomaly:
                failed = tell(self.on_anomaly, path, entry.line, self.timeout_s)
                self.say("command", failed and f"--on-anomaly failed for {entry.path}: {failed}")
        while not self.written(entry):
            self.pause(self.interval_s)
            if self.stop():
                return  # without a line it is scored again
        del self.arrivals.waiting[path]
        self.arrivals.known[entry.path] = known = Known.of(entry)
        self.counts[entry.place] += 1
        self.sort(path, known)

    def draw(self, result: Result, entry: Entry) -> None:
        """Write the picture of an image, under a name that tells its content too."""
        assert result.path is not None
        if not self.maps or result.network_map is None:
            return
        name = result.path.relative_to(self.arrivals.folder)
        own = name.with_name(f"{name.name}-{str(entry.digest)[:12]}")
        (picture,) = picture_names([own], ".jpg")
        known = self.model.calibration
        colours = None if known is None else known.colours
        failed = None
        try:
            _, drawn = draw(
                result.path, result.network_map, result.preprocess, colours, longest_side=LONGEST_SIDE
            )
            write_jpeg(self.out / MAPS / picture, drawn, sync=True)
        except (OSError, UnreadableImage) as error:
            failed = f"no picture of {entry.path}: {error}"
        self.say("picture", failed)

    def written(self, entry: Entry) -> bool:
        """Whether the line of an image is in the log."""
        failed = None
        try:
            self.log.append(entry)
        except OSError as error:
            failed = f"cannot write the log: {error}; nothing is scored until that works"
        self.say("log", failed)
        return failed is None

    def sort(self, path: Path, known: Known) -> None:
        """Move an image that has a line to where it belongs, if that is asked for."""
        if self.move_to is None or known.place not in PLACES:
            return
        failed = None
        target = self.move_to / known.place / path.relative_to(self.arrivals.folder)
        try:
            move(path, target, known)
        except OSError as error:
            failed = f"cannot move {printable(path)}: {error}; it stays until that works"
        self.say("move", failed)

    def say(self, what: str, trouble: str | None) -> None:
        """Say what went wrong if it did not before, and when it works again."""
        if trouble is not None and what not in self.troubles:
            self.troubles.add(what)
            logger.warning("%s", trouble)
        elif trouble is None and what in self.troubles:
            self.troubles.remove(what)
            logger.info("%s works again", _NAMES[what])

    def pause(self, seconds: float) -> None:
        """Wait, but not much longer than until somebody asks to stop."""
        until = time.monotonic() + seconds
        while not self.stop() and (left := until - time.monotonic()) > 0:
            time.sleep(min(_NAP_S, left))
