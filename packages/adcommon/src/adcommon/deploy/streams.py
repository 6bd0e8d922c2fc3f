"""Batches that torch scores at the same time, each in a thread of its own.

Threads that share a batch wait for one another at every layer, on cores that decode the next images too. An
image takes ReContrast 51 ms of two such cores, decoding included, and 44 where each has a batch of its own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

MOST = 4
"""Batches at once; each takes memory."""
B = TypeVar("B")
R = TypeVar("R")


def in_streams(score: Callable[[B], R], batches: Iterable[B], streams: int) -> Iterator[R]:
    """What is said of each batch, in their order; torch's threads are shared among so many batches."""
    import torch

    threads = torch.get_num_threads()
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(
        streams, initializer=torch.set_num_threads, initargs=(max(1, threads // streams),)
    )
    try:
        for batch in batches:
            waiting.append(pool.submit(score, batch))
            if len(waiting) > streams:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # of threads that begin later: this one's were never changed
