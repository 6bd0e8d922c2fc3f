"""BrainMRI to the layout of MVTec AD under InCTRL's protocol.

    <source>                             <target>/brainmri
      no/1 no.jpeg                         train/good/      73
      yes/Y1.jpg                           test/good/       25
      brain_tumor_dataset/no, /yes         test/defect/    155

The archive has every image twice; one copy is taken. A quarter of the normal images tests. Where InCTRL's
split depends on the order in which a disk lists its files, it is sorted by name here. Source: InCTRL (arXiv
2403.06495).
"""

from dataclasses import dataclass
from pathlib import Path

from adcommon.data.prepare.plan import Plan
from adcommon.data.prepare.raw import copies, find_level, quarter
from adcommon.io.images import list_images


@dataclass(frozen=True, kw_only=True)
class BrainMri:
    """The split of InCTRL."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has the folders yes and no, or a folder that has them."""
        root = find_level(source, "yes", "brain_mri")
        parts = quarter(list_images(root / "no")) | {"test/defect": list_images(root / "yes")}
        return Plan(
            dataset="brain_mri",
            source=root,
            folder=target,
            steps=copies("brainmri", parts),
            notes=("order: by name; InCTRL's is that of the disk",),
        )
