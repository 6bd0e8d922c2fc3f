import ctypes
import os
import platform
import subprocess
import sys

import pytest

from adcommon.io.memory import keep_freed_memory

PAGES = """
import resource
from adcommon.io.memory import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * 2**24
before = faults()
for number in range(20):
    bytes([number]) * 2**24
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="nothing is done without glibc")
def test_what_was_freed_is_not_asked_for_again() -> None:
    run = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    pages = 20 * 2**24 // os.sysconf("SC_PAGE_SIZE")
    assert int(run.stdout) < pages / 10


def test_what_the_environment_says_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: None) -> None:
        raise AssertionError("the C library was asked")

    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    keep_freed_memory()
