"""One thread for each model, which scores the images of many requests together."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from adcommon.deploy.inputs import Decoded, Unreadable
from adcommon.deploy.model import Model
from adcommon.deploy.result import Result

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes at most, of each model or client."""

    batch: int = 16
    """Images that a model scores at once."""
    wait_s: float = 0.002
    """How long the first image of a batch waits for others that have arrived and are still decoded."""
    queue: int = 128
    """Images of a model that are accepted and not answered yet; more are told to come back."""
    request_bytes: int = 32_000_000
    """Of a request's body."""
    timeout_s: float = 30.0
    """How long a request may take to arrive, and a stop to finish what was accepted."""
    threads: int = 2
    """That decode images and draw maps."""


class Busy(Exception):
    """More images are waiting than the queue holds."""


class Worker:
    """A model and the thread that it works in."""

    def __init__(self, model: Model, limits: Limits) -> None:
        """Start the thread; the model is nobody else's."""
        self.model = model
        self._limits = limits
        self._most = limits.batch if model.preprocess.tile is None else 1
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Decoded | Unreadable, Future[Result]]] = deque()
        self._held = 0
        self._closing = False
        threading.Thread(target=self._run, name="scoring", daemon=True).start()

    @property
    def held(self) -> int:
        """Images that are accepted and not answered yet."""
        return self._held

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Keep places in the queue for so many images, from before they are read until they are answered.

        Raises:
            Busy: there are not as many.
        """
        with self._changed:
            if self._held + count > self._limits.queue:
                raise Busy
            self._held += count
        try:
            yield
        finally:
            with self._changed:
                self._held -= count
                self._changed.notify()

    def submit(self, image: Decoded | Unreadable) -> "Future[Result]":
        """Have an image scored that has a place."""
        future: Future[Result] = Future()
        with self._changed:
            self._jobs.append((image, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """End the thread once all images that have a place are answered."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _run(self) -> None:
        while waiting := self._next():
            batch = [job for job in waiting if job[1].set_running_or_notify_cancel()]
            try:
                results = list(self.model.judge([image for image, _ in batch], batch_size=self._limits.batch))
            except Exception as error:  # whatever it is, the thread goes on, and each request hears of it
                logger.error("the model %r failed: %s", self.model, error)
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    future.set_result(result)

    def _next(self) -> list[tuple[Decoded | Unreadable, "Future[Result]"]]:
        """The images of the next batch; none: the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or (self._closing and self._held == 0))
            end = time.monotonic() + self._limits.wait_s
            while len(self._jobs) < min(self._most, self._held) and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return [self._jobs.popleft() for _ in range(min(self._most, len(self._jobs)))]
