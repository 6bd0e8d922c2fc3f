import os
import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
import numpy as np
from adcommon.io.memory import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**21)
before = faults()
for _ in range(20):
    np.ones(2**21)  # 16 MB
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="nothing is done without glibc")
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "the user's own setting"])
def test_what_was_freed_is_not_asked_for_again(kept: bool) -> None:
    own = {} if kept else {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    run = subprocess.run(
        [sys.executable, "-c", PAGES], capture_output=True, text=True, check=True, env={**os.environ, **own}
    )
    pages = 20 * 2**24 // os.sysconf("SC_PAGE_SIZE")
    assert (int(run.stdout) < pages / 10) == kept
