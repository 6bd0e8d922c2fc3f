"""Memory that a process has freed, and will want again."""

import ctypes
import os
import sys

KEPT, LARGEST = 2**28, 2**25
"""Bytes that may stay with the process, and of the largest piece that does; more than that glibc refuses."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's `mallopt`."""


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, up to `KEPT`, instead of giving it back and asking for it anew.

    Images, maps and features of some megabytes come and go with each batch; the system hands them out page by
    page, emptied. Nothing is done where the environment says something of its own, or without glibc.
    """
    said = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if sys.platform != "linux" or any(name in os.environ for name in said):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGEST)
        mallopt(_TRIM_THRESHOLD, KEPT)
