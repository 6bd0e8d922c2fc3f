"""Who runs units of work: threads that wait for processes here, tasks of Ray, jobs of Slurm."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from adcommon.errors import BadValue, require
from adcommon.io.cluster import connect
from adcommon.io.files import atomic_write, mark
from adcommon.training.launch import Launch
from adcommon.training.trials import STOPPED, Unit
from adcommon.types.names import JOBS, QUEUED

if TYPE_CHECKING:
    import submitit

logger = logging.getLogger(__name__)

KILLED = -9
"""Exit code of a unit whose worker is gone."""
_ALIVE = ("PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "COMPLETING", "CONFIGURING")


@runtime_checkable
class Running(Protocol):
    """A unit of work that was handed over."""

    def poll(self) -> int | None:
        """Its exit code; None: it has not ended."""
        ...

    def stop(self) -> None:
        """Ask it to save and end; asked once more it does nothing."""
        ...


Launcher = Callable[[Sequence[Unit]], Sequence[Running]]


def local(launch: Launch, folder: Path) -> Launcher:
    """Processes of this machine; each job has a device of its own as long as there are as many."""
    devices = _visible(launch.devices.split(",")) if launch.devices else []
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for number in range(launch.at_once):
        free.put({"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {})
    pool = ThreadPoolExecutor(launch.at_once)

    def run(unit: Unit) -> int:
        environment = free.get()
        try:
            return unit(environment)
        finally:
            free.put(environment)

    return lambda units: [_Local(unit, pool.submit(run, unit)) for unit in units]


@dataclass(frozen=True, slots=True)
class _Local:
    unit: Unit
    future: "Future[int]"

    def poll(self) -> int | None:
        return self.future.result() if self.future.done() else None

    def stop(self) -> None:
        self.unit.stop()


def _visible(devices: Sequence[str]) -> list[str]:
    """Names of GPUs for CUDA_VISIBLE_DEVICES; numbers count among those that are visible here."""
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return list(devices)
    visible = [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name]
    for number in map(int, devices):
        if number >= len(visible):
            raise BadValue(f"--devices has {number}; CUDA_VISIBLE_DEVICES shows {len(visible)}, from 0")
    return [visible[int(number)] for number in devices]


def on_ray(launch: Launch, folder: Path) -> Launcher:
    """Plain tasks of a Ray cluster; the same paths must lead to the same files on all its machines."""
    connect(launch.ray_address)
    import ray

    task = ray.remote(_call).options(
        num_cpus=launch.cpus or 1, num_gpus=launch.gpus or 0, max_retries=launch.retries
    )
    return lambda units: [_Task(task.remote(unit)) for unit in units]


def _call(unit: Unit) -> int:
    return unit()


class _Task:
    def __init__(self, task: Any) -> None:
        self._task = task
        self._stopped = False

    def poll(self) -> int | None:
        import ray
        from ray.exceptions import RayTaskError, TaskCancelledError

        if not ray.wait([self._task], timeout=0)[0]:
            return None
        try:
            return int(ray.get(self._task))
        except TaskCancelledError:
            return STOPPED
        except RayTaskError:
            raise
        except ray.exceptions.RayError as error:  # of the worker or its machine, more often than `retries`
            logger.warning("Ray: %s", str(error).strip().splitlines()[0])
            return KILLED

    def stop(self) -> None:
        import ray

        if not self._stopped:
            ray.cancel(self._task)
            self._stopped = True


def on_slurm(launch: Launch, folder: Path, *, cluster: str = "slurm") -> Launcher:
    """An array of jobs of Slurm; they go on when the process that watches them ends.

    Args:
        cluster: how submitit runs them.
    """
    require("slurm", "submitit")
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise BadValue("--launcher slurm needs sbatch and srun, not found here; call it on a login node")
    if (launch.gpus or 0) % 1:
        raise BadValue(f"--gpus is {launch.gpus}; Slurm gives whole GPUs")
    import submitit

    mark(folder / JOBS)
    executor = submitit.AutoExecutor(
        folder.absolute() / JOBS, cluster=cluster, slurm_max_num_timeout=launch.retries
    )
    executor.update_parameters(
        name="ad",
        timeout_min=launch.time or 720,
        cpus_per_task=launch.cpus or 1,
        gpus_per_node=int(launch.gpus) if launch.gpus else None,
        mem_gb=launch.mem,
        slurm_partition=launch.partition,
        slurm_array_parallelism=launch.jobs,
    )

    def submit(units: Sequence[Unit]) -> list[Running]:
        jobs: dict[Unit, submitit.Job[int]] = {}
        if cluster == "slurm":
            jobs |= {unit: job for unit in units if (job := _known(unit, folder)) is not None}
        if unknown := [unit for unit in units if unit not in jobs]:
            with executor.batch():
                jobs |= {unit: executor.submit(unit) for unit in unknown}
        for unit in unknown:
            mark(unit.folder)
            atomic_write(unit.folder / QUEUED, jobs[unit].job_id)
        return [_Job(jobs[unit]) for unit in units]

    return submit


def _known(unit: Unit, folder: Path) -> "submitit.SlurmJob[int] | None":
    """The job that an earlier call queued for it, unless it has ended."""
    import submitit

    file = unit.folder / QUEUED
    if not file.exists():
        return None
    job: submitit.SlurmJob[int] = submitit.SlurmJob(folder.absolute() / JOBS, file.read_text())
    return job if not job.done() and job.state.split()[0] in _ALIVE else None


class _Job:
    def __init__(self, job: "submitit.Job[int]") -> None:
        self._job = job
        self._left = False

    def poll(self) -> int | None:
        import submitit

        if self._left:
            return STOPPED
        if not self._job.done():
            return None
        try:
            return self._job.result()
        except submitit.core.utils.FailedJobError as error:
            logger.error("%s", error)
            return 1
        except submitit.core.utils.UncompletedJobError as error:
            logger.warning("%s", str(error).splitlines()[0])
            return KILLED

    def stop(self) -> None:
        if not self._left:
            logger.warning("job %s stays in the queue; `scancel` ends it", self._job.job_id)
            self._left = True


LAUNCHERS: dict[str, Callable[[Launch, Path], Launcher]] = {
    "local": local,
    "ray": on_ray,
    "slurm": on_slurm,
}
