"""Ending a loop in good order when somebody asks for it."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from adcommon.errors import Stopped

_CAUGHT = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
"""Slurm announces the end of a job's time with one of the last two; Windows has neither."""


class StopSignal:
    """Lets a loop end in good order: SIGTERM or Ctrl-C sets `requested`; a second Ctrl-C interrupts at once.

    Enter it with `with` around the loop and ask `requested` after every step. Where nothing is left to be
    saved, as in the evaluation after a training, `at_once` ends whatever is done. Outside the main thread
    Python delivers no signals, and `requested` stays False.
    """

    def __init__(self) -> None:
        """Not asked to stop; signals are caught only within `with`."""
        self.requested = False
        self.number = 0
        """Of the signal that asked; 0: none did."""
        self._message: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Catch the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.Signals[name] for name in _CAUGHT if hasattr(signal, name)):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back to whom they belonged."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def at_once(self, message: str) -> None:
        """From now on a signal raises `Stopped` with this message; one that has come does so here."""
        self._message = message
        if self.requested:
            raise Stopped(message, self.number)

    def in_good_order(self) -> None:
        """From now on a signal only sets `requested`, as at the start."""
        self._message = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested, self.number = True, number
        if self._message is not None:
            message, self._message = self._message, None
            raise Stopped(message, number)
        # Not through logging: its stream may be in the middle of a line, and cannot be entered twice.
        os.write(2, b"\nstopping in good order; Ctrl-C once more stops at once\n")
