"""The simulated textile, as a tree of folders; `textile` as a dataset needs no preparation.

    <source>                       <target>/textile
      nominal/textile_0001.jpg       train/good/     750
      local/textile_0001.jpg         test/good/      250
      global/textile_0001.jpg        test/local/     500
                                     test/global/    500

The three folders use the same file names. A quarter of the nominal images, sorted by name, tests.
"""

from dataclasses import dataclass
from pathlib import Path

from adcommon.data.prepare.plan import Plan
from adcommon.data.prepare.raw import copies, find_level, quarter
from adcommon.data.sources.embedded import textile_folder
from adcommon.io.images import list_images


@dataclass(frozen=True, kw_only=True)
class Textile:
    """A tree of folders; as a dataset, `textile` needs no preparation."""

    package = staticmethod(textile_folder)

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has nominal, local and global."""
        root = find_level(source, "nominal", "textile")
        parts = quarter(list_images(root / "nominal"))
        parts |= {f"test/{defect}": list_images(root / defect) for defect in ("local", "global")}
        return Plan(
            dataset="textile",
            source=root,
            folder=target,
            steps=copies("textile", parts),
        )
