"""Ending a loop in good order when somebody asks for it."""

import os
import signal
import threading
from types import FrameType
from typing import Any


class StopSignal:
    """Lets a loop end in good order: SIGTERM or Ctrl-C sets `requested`; a second Ctrl-C interrupts at once.

    Enter it with `with` around the loop and ask `requested` after every step. Outside the main thread Python
    delivers no signals, and `requested` stays False.
    """

    def __init__(self) -> None:
        """Not asked to stop; signals are caught only within `with`."""
        self.requested = False
        self.number = 0
        """Of the signal that asked; 0: none did."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Catch the two signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back to whom they belonged."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested, self.number = True, number
        # Not through logging: its stream may be in the middle of a line, and cannot be entered twice.
        os.write(2, b"\nstopping in good order; Ctrl-C once more stops at once\n")
