"""`--track`: the rows of metrics.csv and the results, also in a tracker that people know. No torch here.

OUT/tracking/tensorboard/  mlflow/  wandb/      what the tracker writes, one tracked run per job
OUT/JOB/tracking.json                           which of its runs is the job's, and the steps that it has

Nothing is sent anywhere unless the environment says where to: MLFLOW_TRACKING_URI, or WANDB_MODE=online.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat

from adcommon.errors import BadValue
from adcommon.io.cache import cache_folder
from adcommon.io.files import atomic_write, json_text, mark, plain
from adcommon.io.schema import build, read_json
from adcommon.results.rows import Row, different
from adcommon.results.words import METRICS
from adcommon.types.names import TRACKED, TRACKED_RUN
from adcommon.types.values import Count, Tracker

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

logger = logging.getLogger(__name__)

_NO_NAME = re.compile(r"[^\w./ -]")
"""What MLflow takes in no name of a metric; categories may be called so."""


class Tracked:
    """The tracked run of one job; without a tracker it does nothing.

    A tracker that fails is left alone until the next job, and that is said once: the training goes on.
    """

    def __init__(self, tracker: "GeneralTracker | None" = None, last: int = 0) -> None:
        """Go on with a run that was begun.

        Args:
            last: the step up to which it has the rows of metrics.csv.
        """
        self._tracker, self.last = tracker, last
        self._works = tracker is not None

    def configure(self, values: Mapping[str, bool | int | float | str]) -> None:
        """Say once what the run was made with."""
        if self._tracker is not None:
            self._attempt(partial(self._tracker.store_init_configuration, dict(values)))

    def log(self, step: int, values: Mapping[str, SupportsFloat | None]) -> None:
        """Send a row of metrics.csv, unless it was sent before the training was resumed."""
        if step > self.last:
            self.last = step
            self._send(values)

    def finish(self, rows: Sequence[Row]) -> None:
        """Send the results, at the last step, as `results/CATEGORY/PROTOCOL/METRIC`.

        Where rows differ in more, such as the draw of references, this stands before the metric.
        """
        facts = ("category", "protocol", *different(rows))
        for row in rows:
            place = "/".join(["results", *(str(row[fact]) for fact in facts if row.get(fact) is not None)])
            values = {name: row.get(name) for name in METRICS} | (row.get("extra") or {})
            self._send({f"{place}/{name}": value for name, value in values.items()})

    def close(self) -> None:
        """End the tracked run."""
        if self._tracker is not None:
            self._attempt(self._tracker.finish)

    def _send(self, values: Mapping[str, SupportsFloat | None]) -> None:
        known = {_NO_NAME.sub("_", name): float(value) for name, value in values.items() if value is not None}
        if self._tracker is not None and self._works:
            self._attempt(partial(self._tracker.log, known, step=self.last))

    def _attempt(self, send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:  # a full disk, a server that is gone: each library has errors of its own
            if self._works:
                logger.warning(
                    "tracking ended at step %d: %s; the training goes on, and metrics.csv has every row",
                    self.last,
                    _first_line(error),
                )
            self._works = False


@dataclass(frozen=True)
class _Begun:
    """What tracking.json says."""

    tracker: Tracker
    run: str | None
    """The tracker's name of the run; TensorBoard has none."""
    step: Count
    """Up to this one it has the rows of metrics.csv."""


class Tracking:
    """Where the jobs of a command are tracked."""

    def __init__(self, kind: Tracker, project: str, folder: Path, values: Mapping[str, object]) -> None:
        """Nothing is begun yet.

        Args:
            project: of all jobs: MLflow's experiment, W&B's project.
            folder: of the command's run.
            values: recipe and settings, kept as each tracked run's configuration.
        """
        self._kind, self._project, self._folder = kind, project, (folder / TRACKED).resolve()
        flat = {name: plain(value) for name, value in values.items()}
        self._config = {
            name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for name, value in flat.items()
        }
        self._has_begun = False

    @contextmanager
    def of(self, job: str, folder: Path, last: int) -> Iterator[Tracked]:
        """The tracked run of a job while it is trained; a resumed job goes on with the one that it has.

        Args:
            folder: of the job.
            last: step that metrics.csv has come to, before a resumed training sets it back.

        Raises:
            BadValue: the first job of a command cannot be tracked. Later ones are trained all the same.
        """
        if self._kind == "none":
            yield Tracked()
            return
        with _surroundings(_offline(self._kind, self._folder)):
            try:
                tracked = self._begin(job, folder / TRACKED_RUN, last)
            except Exception as error:
                message = f"cannot track {job} with {self._kind}: {_first_line(error)}"
                if not self._has_begun:
                    raise BadValue(
                        f"{message}\n  Look at what the environment says of it, or leave out --track"
                    ) from error
                logger.warning("%s; it is trained all the same, and metrics.csv has every row", message)
                tracked = Tracked()
            self._has_begun = True
            try:
                yield tracked
            finally:
                tracked.close()

    def _begin(self, job: str, file: Path, last: int) -> Tracked:
        begun = build(_Begun, read_json(file), str(file)) if file.exists() else None
        if begun is not None and begun.tracker != self._kind:
            begun = None
        mark(self._folder)
        tracker = _make(self._kind, self._folder, self._project, job, begun.run if begun else None)
        tracker.start()
        tracked = Tracked(tracker, max(begun.step, last) if begun else 0)
        if begun is None:
            tracked.configure(self._config)
        own = tracker.tracker
        run = own.info.run_id if self._kind == "mlflow" else own.id if self._kind == "wandb" else None
        atomic_write(file, json_text(_Begun(self._kind, run, tracked.last)))
        return tracked


def _make(kind: Tracker, folder: Path, project: str, job: str, run: str | None) -> "GeneralTracker":
    """The tracker of one job, not begun yet; of `run`, if it is to go on with that."""
    from accelerate import tracking

    if kind == "tensorboard":
        return tracking.TensorBoardTracker(job, folder / kind)
    if kind == "mlflow":
        if os.environ["MLFLOW_TRACKING_URI"] == (folder / kind).as_uri():
            # MLflow makes its folders once per process, and fit(force=True) has deleted them
            (folder / kind / ".trash").mkdir(parents=True, exist_ok=True)
        return tracking.MLflowTracker(project, run_id=run, run_name=job)
    mode = os.environ["WANDB_MODE"]  # said again, because wandb may have looked before it was set
    console = {"console": "off"}  # log.txt has what is said
    return tracking.WandBTracker(
        project, name=job, id=run, resume="allow", dir=folder, mode=mode, settings=console
    )


def _offline(kind: Tracker, folder: Path) -> dict[str, str]:
    """What the environment says to a tracker where the user's says nothing."""
    if kind == "mlflow":
        return {
            "MLFLOW_TRACKING_URI": (folder / kind).as_uri(),
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # a server that is gone costs 14 s; with its own 7, 247 s
        }
    if kind == "wandb":
        cache = str(cache_folder() / kind)
        return {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_CACHE_DIR": cache}
    return {}


@contextmanager
def _surroundings(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that hold within the block, unless they have a value."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
