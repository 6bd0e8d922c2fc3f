"""What every training command does around its trainings: the run's folder, one job after the other, tables.

A job is one model: a category, or all of them together. Finished jobs are not done again by `--resume`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from adcommon.results.rows import Published, Row, text
from adcommon.training.logging import start_logging
from adcommon.training.run import Run, RunGroup
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal

if TYPE_CHECKING:
    from accelerate import Accelerator

Job = TypeVar("Job")


def run_jobs(
    name: str,
    recipe: Any,
    settings: Settings,
    jobs: Mapping[str, Job],
    *,
    train: "Callable[[Job, Run, Accelerator, StopSignal], list[dict[str, Any]]]",
    check: Callable[[], None],
    published: Published | None = None,
) -> list[Row]:
    """Train one model per job; tables are written and printed after each.

    Args:
        name: of the run's folder, if the settings do not say.
        recipe: a dataclass, whose `precision` is the network's.
        jobs: what `train` needs, by the name of the job's folder.
        train: trains and evaluates one model; returns the rows of the report.
        check: looks at all inputs before the first training; on the main process only.
        published: the paper's numbers, to stand beside ours.

    Returns:
        The rows of all jobs; none on the other processes.
    """
    from adcommon.models.devices import choose_device
    from adcommon.training.devices import start

    start_logging(None)
    accelerator = start(choose_device(settings.gpu, settings.device), recipe.precision)
    main = accelerator.is_main_process
    with accelerator.main_process_first():  # the others find the folder as it is to be
        group = RunGroup(
            settings.folder(name),
            resume=settings.resume or not main,
            force=settings.force and main,
        )
        if main:
            start_logging(group.folder)
            group.write_recipe({**asdict(recipe), **settings.as_flags()})
            check()

    rows: list[Row] = []
    with StopSignal() as stop:
        for job_name, job in jobs.items():
            run = group.run(job_name)
            done = run.finished()
            if done is None:
                done = train(job, run, accelerator, stop)
                if main:
                    run.finish(done)
            rows += done
            if main:
                group.write_results(rows, published)
                print(text(rows, published))
    if main:
        print(f"\nmodels, tables and logs are in {group.folder}")
    return rows
