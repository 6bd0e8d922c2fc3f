"""The colour images of MVTec 3D-AD in the layout of MVTec AD; the download can also be read as it is.

    <source>/bagel                          <target>/bagel
      train/good/rgb/000.png                  train/good/000.png
      validation/good/rgb/000.png             validation/good/000.png    for whoever wants them; not read
      test/crack/rgb/000.png                  test/crack/000.png
      test/crack/gt/000.png                   ground_truth/crack/000_mask.png
      train/good/xyz/000.tiff                 (coordinates are left out)

Source: ResAD (arXiv 2410.20047), which reads the same images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adcommon.data.catalog import DATASETS
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import decode_all, find_tree, shorten, write_mask
from adcommon.data.sources.layouts import scan_rgb
from adcommon.errors import BadValue, MaskMissing
from adcommon.io.images import list_images, open_mask


@dataclass(frozen=True, kw_only=True)
class Mvtec3d:
    """Colour images and masks, without coordinates."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has bagel, cable_gland, ..."""
        root = find_tree(source, "mvtec_3d")
        categories = [name for name in DATASETS["mvtec_3d"].categories if (root / name).is_dir()]
        masks = [mask for name in categories for mask in list_images(root / name / "test/good/gt")]
        marked = [
            mask for mask, full in zip(masks, decode_all(_marks, masks, "reading masks"), strict=True) if full
        ]
        if marked:
            raise BadValue(f"{len(marked)} masks of normal images are not empty: {shorten(marked)}")
        return Plan(
            dataset="mvtec_3d",
            source=root,
            folder=target,
            steps=[step for name in categories for step in _steps(root / name, name)],
            notes=("colour images only", "validation is not read as training data, as in ResAD"),
        )


def _steps(folder: Path, category: str) -> Iterator[Step]:
    if not (folder / "train/good/rgb").is_dir():
        raise BadValue(f"{folder} has no train/good/rgb: it is not the download, or it is prepared already")
    scan = scan_rgb(folder, category)
    if scan.wrong:
        raise BadValue(scan.wrong[0])
    if scan.missing:
        raise MaskMissing(f"{len(scan.missing)} anomalous images have no mask: {shorten(scan.missing)}")
    for image in list_images(folder / "validation/good/rgb"):
        yield Step(f"{category}/validation/good/{image.name}", image)
    for record in [*scan.split.train, *scan.split.test]:
        part = record.image.parent.parent.relative_to(folder).as_posix()
        yield Step(f"{category}/{part}/{record.image.name}", record.image)
        if record.mask is not None:
            truth = f"{category}/ground_truth/{record.defect}/{record.image.stem}_mask.png"
            yield Step(truth, record.mask, write_mask)


def _marks(mask: Path) -> bool:
    """True if a mask has a pixel above 0."""
    return bool(open_mask(mask).any())
