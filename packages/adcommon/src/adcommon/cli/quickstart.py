"""`ad quickstart`: every installed method that has one trains on real images that need no download.

A method registers `quickstart(out: Path, *, force: bool)` in the entry-point group `adcommon.quickstart`;
it trains with its quick-start recipe and leaves `results.json` in `out`.
"""

import logging
import time
from pathlib import Path

from adcommon.errors import UserError
from adcommon.methods import FLOOR, find, installed
from adcommon.results.rows import read_results, text, write_results

logger = logging.getLogger(__name__)
GROUP = "adcommon.quickstart"


def quickstart(*methods: str, out: Path = Path("quickstart"), force: bool = False) -> None:
    """Train on real images that need no download, some minutes on two CPU cores, and show what came out.

    Args:
        methods: Methods to run; by default all that have a quick start, those that train nothing first.
        out: Folder for models, tables and pictures.
        force: Overwrite what an earlier quick start left.
    """
    floor = installed(FLOOR)
    names = methods or tuple(sorted(installed(GROUP), key=lambda name: name not in floor))
    if not names:
        raise UserError("no installed method has a quick start; install one of the method packages")
    starts = {name: find(name, GROUP) for name in names}
    rows = []
    for name, start in starts.items():
        began = time.monotonic()
        start(out / name, force=force)
        logger.info("%s done in %.0f s", name, time.monotonic() - began)
        rows += read_results(out / name / "results.json")
    write_results(out, rows)
    if len(starts) > 1:
        print(text(rows))
    print(f"\nEverything is in {out}: models, tables, and pictures of the anomaly maps.")
