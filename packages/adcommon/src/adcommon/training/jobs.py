"""What every training command does around its trainings: the run's folder, one job after the other, tables.

A job is one model: a category, or all of them together. Finished jobs are not done again by `--resume`.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from adcommon.errors import BadValue, Stopped
from adcommon.io.lock import locked
from adcommon.results.rows import Published, Row, stamped, text, write_results
from adcommon.training.apart import refuse_together, share_out
from adcommon.training.launch import Launch, failure
from adcommon.training.logging import start_logging
from adcommon.training.run import Run, RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.training.tracking import Tracking
from adcommon.training.trials import Trial
from adcommon.types.records import Split
from adcommon.types.values import Tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

    from adcommon.deploy.model import Model

Job = TypeVar("Job")
R = TypeVar("R", contravariant=True)


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training left."""

    folder: Path
    """Of the whole run: tables, log, and a folder per job."""
    rows: list[Row]
    """Of the report, all jobs; empty on the processes that do not write."""
    models: Mapping[str, Path]
    """The model folder of each job, by its name."""

    @property
    def model(self) -> "Model":
        """The trained model, ready to predict, where there is one alone."""
        if len(self.models) != 1:
            raise BadValue(f"there are models of {', '.join(self.models)}; load one of `models` with ad.load")
        from adcommon.deploy.load import load

        (folder,) = self.models.values()
        return load(folder)


def run_jobs(
    name: str,
    recipe: Any,
    settings: Settings,
    jobs: Mapping[str, Job],
    *,
    train: "Callable[[Job, Run, Accelerator, StopSignal], list[dict[str, Any]]]",
    check: Callable[[], None],
    published: Published | None = None,
) -> Fitted:
    """Train one model per job; tables are written and printed after each.

    Args:
        name: of the run's folder, if the settings do not say.
        recipe: a dataclass, an `Arithmetic`.
        jobs: what `train` needs, by the name of the job's folder.
        train: trains and evaluates one model; returns the rows of the report.
        check: looks at all inputs before the first training; on the main process only.
        published: the paper's numbers, to stand beside ours.
    """
    from adcommon.models.devices import choose_device, in_words
    from adcommon.models.sharing import meet
    from adcommon.training.devices import start

    start_logging(None)
    folder, apart = settings.folder(name), settings.job is None and settings.launch != Launch()
    if apart:  # nothing is trained in this process
        refuse_together(settings, jobs)
        accelerator = start(choose_device("cpu"))
    else:
        accelerator = start(choose_device(settings.gpu, settings.device), recipe)
    if settings.job is not None:
        folder, jobs = folder.parent, {settings.job: jobs[settings.job]}
    writes = accelerator.is_main_process
    main = writes and settings.job is None
    group = RunGroup(folder, jobs, resume=settings.resume or not main, force=settings.force and main)
    values = {**asdict(recipe), **settings.as_flags()}
    tracking = Tracking(settings.track if writes else "none", name, group.folder, values)
    rows: list[Row] = []
    models: dict[str, Path] = {}
    failed: list[Trial] = []
    with ExitStack() as until_done:
        if main:
            group.refuse_changed(recipe)
            check()
            until_done.enter_context(locked(group.folder))
            group.open()
            until_done.enter_context(group.discarded_if_refused())
            start_logging(group.folder)
            group.write_recipe(values)
        meet(accelerator)  # the others find the folder as it is to be
        if settings.job is not None:
            until_done.enter_context(locked(group.folder / settings.job))
        stop = until_done.enter_context(StopSignal())
        if apart:
            failed = share_out(group.folder, jobs, settings, stop)
            if stop.requested:
                raise Stopped("stopped; run the same command with --resume to go on", stop.number)
        for job_name, job in jobs.items():
            if job_name in [trial.name for trial in failed]:
                continue
            run = group.run(job_name)
            done = run.finished()
            if done is None:
                with tracking.of(job_name, run.folder, run.last_step()) as run.tracked:
                    done = train(job, run, accelerator, stop)
                    done = stamped(done, recipe, in_words(accelerator.device), settings.note)
                    run.tracked.finish(done)
            if writes:
                run.finish(done)  # also after a kill in the middle of it
            rows += done
            models[job_name] = run.model
            if main:
                write_results(group.folder, rows, published)
                print(text(rows, published))
    if failed:
        raise failure(failed, len(jobs), "with --resume")
    if main:
        print(f"\nmodels, tables and logs are in {group.folder}")
        if rows:
            print(_next(group.folder, rows, models))
    return Fitted(group.folder, rows if main else [], models)


def _next(folder: Path, rows: Sequence[Row], models: Mapping[str, Path]) -> str:
    """What to look at, and the command that scores images with the first of the models."""
    pages = [page for model in models.values() for page in sorted(model.parent.glob("maps/**/index.html"))]
    compared = " --references NORMAL_IMAGES" if rows[0]["setting"] == "few-shot" else ""
    model = shlex.quote(str(next(iter(models.values()))))
    return (
        f"look at {pages[0] if pages else folder / 'results.html'}\n"
        f"score images with: uv run ad predict IMAGES --model {model}{compared}"
    )


@runtime_checkable
class Experiment(Protocol[R]):
    """A method's experiment: trains and evaluates one model per job of its own choice."""

    def __call__(self, recipe: R, splits: Mapping[str, Split], settings: Settings, *, name: str) -> Fitted:
        """Train on the splits of a dataset, by category."""
        ...


@dataclass(frozen=True, slots=True)
class Fit(Generic[R]):
    """The public function `fit` of a method; its command `<method>-train` does the same."""

    method: str
    run: Experiment[R]

    def __call__(
        self,
        recipe: R,
        data: Split | Mapping[str, Split],
        *,
        out: Path | str,
        device: str | None = None,
        weights: str = "pretrained",
        workers: int | None = 0,
        cache: bool = True,
        false_alarm_rate: float = 0.05,
        resume: bool = False,
        force: bool = False,
        track: Tracker = "none",
    ) -> Fitted:
        """Train on the normal images of `data`, evaluate on its test images, and save everything in `out`.

        Args:
            recipe: one of the method's `RECIPES`, or `dataclasses.replace` of one.
            data: from `adcommon.folder` or `adcommon.dataset`; several categories by name.
            out: folder for everything the run leaves behind.
            device: by its torch name; by default the first GPU if there is one.
            weights: of the backbone: "pretrained", "random" or a file.
            workers: processes that load images; 0 loads in this one, None: as many as suit the machine.
            cache: keep decoded images, and frozen features, on disk.
            false_alarm_rate: at which the stored decision threshold may call a normal image anomalous; needs
                1 / rate - 1 normal images that the model was not made of, else nothing is decided.
            resume: continue a run in `out` that was stopped or killed.
            force: overwrite a run in `out`.
            track: also write metrics.csv and the results for "tensorboard", "mlflow" or "wandb", in `out`.

        Raises:
            UserError: what cannot work, before the training begins.
        """
        splits = _by_category(data)
        settings = Settings(
            out=Path(out),
            device=device,
            weights=weights,
            workers=workers,
            cache=cache,
            false_alarm_rate=false_alarm_rate,
            resume=resume,
            force=force,
            track=track,
        )
        named: Any = recipe
        dataset = next(iter(splits.values())).dataset
        return self.run(replace(named, dataset=dataset), splits, settings, name=self.method)


@runtime_checkable
class Generalist(Protocol[R]):
    """An experiment that trains on labelled images and tests on other categories, with references."""

    def __call__(
        self, recipe: R, data: Mapping[str, Split], targets: Mapping[str, Split], settings: Any, *, name: str
    ) -> Fitted:
        """Train on all images of `data`, test on `targets`, of which there may be none.

        The settings are of the method's own type.
        """
        ...


@dataclass(frozen=True, slots=True)
class FitGeneralist(Generic[R]):
    """The public function `fit` of a method that is trained once and then shown normal images of anything."""

    method: str
    settings: type[Settings]
    run: Generalist[R]

    def __call__(
        self,
        recipe: R,
        data: Split | Mapping[str, Split],
        *,
        targets: Split | Mapping[str, Split] | None = None,
        out: Path | str,
        device: str | None = None,
        weights: str = "pretrained",
        workers: int | None = 0,
        cache: bool = True,
        resume: bool = False,
        force: bool = False,
        track: Tracker = "none",
    ) -> Fitted:
        """Train on all labelled images of `data`, test on `targets`, and save everything in `out`.

        All else is as in `Fit`.

        Args:
            data: normal and anomalous images, from `adcommon.folder` or `adcommon.dataset`; several
                categories by name. Training and test images are trained on alike.
            targets: other categories to test on, with references of their training images. Without, nothing
                is tested; the model takes references when it is loaded.
        """
        settings = self.settings(
            out=Path(out),
            device=device,
            weights=weights,
            workers=workers,
            cache=cache,
            resume=resume,
            force=force,
            track=track,
        )
        tested = _by_category(targets) if targets else {}
        return self.run(recipe, _by_category(data), tested, settings, name=self.method)


def _by_category(data: Split | Mapping[str, Split]) -> dict[str, Split]:
    splits = {data.category: data} if isinstance(data, Split) else dict(data)
    if not splits:
        raise BadValue("no data was given; expected what adcommon.folder or adcommon.dataset returns")
    return splits
