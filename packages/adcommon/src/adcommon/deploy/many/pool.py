"""Workers of a Ray cluster, each with a model, that score a shard at a time.

One shard for each worker is under way and no more, so memory does not grow with the images.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from adcommon.deploy.many.shards import Worker
from adcommon.errors import BadValue, UserError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_MOST_IN_A_ROW = 10
"""Shards given up without a success between them, after which nothing can be expected to succeed."""


def score_shards(
    worker: Worker,
    numbers: Iterable[int],
    *,
    cpus: int,
    gpus: float,
    retries: int,
    done: Callable[[int], None],
    stop: Callable[[], bool],
) -> dict[int, str]:
    """Score shards on the cluster that this process speaks to; those that could not be, with the last reason.

    A worker that dies, or whose shard fails, is replaced, and the shard is tried again; the last time
    carefully, image by image.

    Args:
        cpus: of each worker; there are as many workers as the cluster's machines have room for.
        retries: how often a shard is tried again.
        done: told how many images a shard had.
        stop: asked every second; True ends at once, and leaves the shards that are under way.

    Raises:
        BadValue: as `refuse_without_room`.
        UserError: whatever is tried fails.
    """
    import ray
    from ray.exceptions import RayError

    new = ray.remote(Worker).options(num_cpus=cpus, num_gpus=gpus)
    waiting, tries = deque(numbers), Counter[int]()
    idle: list[Any] = []
    running: dict[Any, tuple[Any, int]] = {}
    failed: dict[int, str] = {}
    in_a_row = 0
    try:
        while (waiting or running) and not stop():
            if not running:
                refuse_without_room(cpus, gpus)
            room = _room(cpus, gpus)
            while waiting and len(running) < room:
                number = waiting.popleft()
                one = idle.pop() if idle else new.remote(**vars(worker))
                careful = tries[number] == retries > 0
                running[one.score.remote(number, careful=careful)] = one, number
            while idle:  # it would keep its place from one that waits for it
                ray.kill(idle.pop())
            for call in ray.wait(list(running), timeout=_POLL_SECONDS)[0]:
                one, number = running.pop(call)
                try:
                    done(ray.get(call))
                except RayError as error:
                    ray.kill(one)
                    reason = _reason(error)
                    logger.warning("shard %d failed: %s", number, reason)
                    tries[number] += 1
                    if tries[number] <= retries:
                        waiting.appendleft(number)
                        continue
                    failed[number] = reason
                    in_a_row += 1
                    if in_a_row == _MOST_IN_A_ROW:
                        raise UserError(
                            f"{in_a_row} shards failed one after the other, the last one: {reason}\n  Mend "
                            "that, and go on with --resume"
                        ) from error
                else:
                    in_a_row = 0
                    idle.append(one)
    finally:
        for one in (*idle, *(one for one, _ in running.values())):
            ray.kill(one)
    return failed


def refuse_without_room(cpus: int, gpus: float) -> None:
    """Refuse workers that no machine of the cluster can have.

    Raises:
        BadValue: says what they were to have.
    """
    if not _room(cpus, gpus):
        wanted = f"--cpus {cpus}" + (f" and --gpus {gpus:g}" if gpus else "")
        raise BadValue(f"no machine of the cluster has room for a worker with {wanted}; ask for less")


def _room(cpus: int, gpus: float) -> int:
    """For how many workers the machines of the cluster have room."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    by_cpus = [has.get("CPU", 0) / cpus for has in alive]
    by_gpus = [has.get("GPU", 0) / gpus for has in alive] if gpus else by_cpus
    return sum(int(min(both)) for both in zip(by_cpus, by_gpus, strict=True))


def _reason(error: Exception) -> str:
    """Of a failure, on one line: what our code raised, or what Ray says of a worker that is gone."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {cause}".replace("\n", " ")
    return str(error).strip().splitlines()[0]
