"""A model by its name, and what happens when its folder or file is replaced."""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from adcommon.deploy.model import Model
from adcommon.deploy.serve.worker import Limits, Worker
from adcommon.deploy.summary import worth_of
from adcommon.errors import BadValue, WrongCheckpoint

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""How often a model's files are looked at."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OPAQUE = ("model", "model-best")
"""Names of files and folders that say nothing of what the model is for."""

Signature = tuple[tuple[int, int, int], ...]


class Served:
    """A model that is served under a name; what its path holds replaces it once that is whole and works."""

    def __init__(self, name: str, path: Path, load: Callable[[Path], Model], limits: Limits) -> None:
        """Load it.

        Raises:
            UserError: it is no model that works here.
        """
        self.name, self.path = name, path
        self._load, self._limits = load, limits
        self._replacing = threading.Lock()
        self._signature = self._seen = _signature(path)
        self.worker = self._started()
        """The one that new requests are given to."""
        self.loaded = datetime.now(UTC)
        """When the model was."""
        self.problem: str | None = None
        """Why what lies at its path now is not the model that is served; None: it is."""

    @contextmanager
    def accepted(self) -> Iterator[Worker]:
        """The worker of a request and a place for its first image; it works until the request is answered.

        Raises:
            Busy: there is no place.
        """
        with ExitStack() as held:
            with self._replacing:
                worker = self.worker
                held.enter_context(worker.places(1))
            yield worker

    def look(self) -> None:
        """Replace the model if its files have changed and are the same as at the last look.

        Requests that were accepted before are answered by the old one; what cannot be loaded or computed is
        logged, kept in `problem`, and changes nothing else.
        """
        before, self._seen = self._seen, _signature(self.path)
        if self._seen is None:
            self._signature, self.problem = None, f"{self.path} is gone"
        if self._seen in (None, self._signature) or self._seen != before:  # the last: it is being written
            return
        self._signature = self._seen
        try:
            worker = self._started()
        except Exception as error:  # whatever a broken file raises, the model that works is kept
            self.problem = f"{type(error).__name__}: {error}"
            logger.warning("%s: the new %s is not served, the old one is: %s", self.name, self.path, error)
            return
        with self._replacing:
            self.worker, old = worker, self.worker
        self.loaded, self.problem = datetime.now(UTC), None
        old.close()
        logger.info("%s: %s was replaced, and the new model is served", self.name, self.path)

    def about(self) -> dict[str, object]:
        """What it is, as JSON has it."""
        model = self.worker.model
        return {
            "name": self.name,
            "method": model.method,
            "category": model.category,
            "threshold": model.threshold,
            "false_alarm_rate": None if model.promise is None else model.promise.false_alarm_rate,
            "worth": " ".join(worth_of(model)),
            "loaded": self.loaded.isoformat(timespec="seconds"),
            "problem": self.problem,
        }

    def _started(self) -> Worker:
        model = self._load(self.path)
        side = model.preprocess.size
        black = model.score_pixels(np.zeros((1, side, side, 3), dtype=np.uint8))
        if not np.isfinite(black.image_scores).all():
            raise WrongCheckpoint(f"{self.path}: its score of a black image is {black.image_scores}")
        return Worker(model, self._limits)


@contextmanager
def watched(models: Iterable[Served]) -> Iterator[None]:
    """Look at the models' files from time to time, in a thread, for as long as the block lasts."""
    served, ended = list(models), threading.Event()

    def look() -> None:
        while not ended.wait(POLL_S):
            for model in served:
                model.look()

    threading.Thread(target=look, name="reloading", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def named(word: str) -> tuple[str, Path]:
    """Name and path of a model, of NAME=PATH or of a path alone.

    A file is called as its name says, a `model` folder as the folder it lies in.

    >>> named("runs/padim/bottle/model")[0], named("line1=runs/x/model")[0], named("bottle.onnx")[0]
    ('bottle', 'line1', 'bottle')

    Raises:
        BadValue: that is no name for an address.
    """
    name, equals, rest = word.partition("=")
    path = Path(rest if equals else word)
    if not equals:
        whole = path.resolve()
        stem = whole.stem if whole.suffix == ".onnx" else whole.name
        name = whole.parent.name if stem in _OPAQUE else stem
    if not _NAME.fullmatch(name):
        raise BadValue(
            f"{name!a} is no name for a model: expected letters, digits, dots, dashes and underscores; "
            f"give it one: NAME={path}"
        )
    return name, path


def _signature(path: Path) -> Signature | None:
    """Changes when the files of a model are replaced or written; None: they are not there."""
    files = [path / "config.json", path / "model.safetensors"] if path.is_dir() else [path]
    try:
        found = [file.stat() for file in files]
    except OSError:
        return None
    return tuple((about.st_ino, about.st_size, about.st_mtime_ns) for about in found)
