"""KolektorSDD2 and DAGM 2007: images beside pictures of their labels, in parts to train and to test.

    <source>                                 <target>
      train/10000.png, train/10000_GT.png      KSDD2/train/good/10000.png
      test/20006.png, test/20006_GT.png        KSDD2/test/defect/20006.png, or test/good
                                               KSDD2/ground_truth/defect/20006_mask.png

      Class1/Train/0001.PNG                    Class1/train/good/0001.PNG
      Class1/Test/0002.PNG                     Class1/test/good/0002.PNG
      Class1/Test/0003.PNG                     Class1/test/defect/0003.PNG
      Class1/Test/Label/0003_label.PNG         Class1/ground_truth/defect/0003_mask.png

In KolektorSDD2 every image has a label, and is anomalous if it has a pixel above 0; in DAGM anomalous images
alone have one, a rough ellipse. Anomalous images of the part to train are left out. Source: the layouts as
read by Božič et al., Computers in Industry 2021.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from adcommon.data.catalog import DATASETS
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import (
    Categories,
    Listing,
    decode_all,
    find_level,
    has_marks,
    refuse_missing,
    refuse_unknown,
    unnested,
    write_mask,
)
from adcommon.io.images import list_images

_PARTS = ("train", "test")
_TRUTH = "_GT"


@dataclass(frozen=True, kw_only=True)
class Ksdd2:
    """Whole images in the owners' split, without the anomalous ones that train."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has train and test."""
        root = find_level(source, "train/*_GT.png", "ksdd2")
        listing = Listing(root)
        images = [
            (part, image)
            for part in _PARTS
            for image in list_images(root / part)
            if not image.stem.endswith(_TRUTH)
        ]
        masks = [listing.find(f"{part}/{image.stem}{_TRUTH}.png") for part, image in images]
        refuse_missing(listing.missing, 2 * len(images), "Unpack the archive again.")
        there = [mask for mask in masks if mask is not None]
        marks = decode_all(has_marks, there, "reading labels")
        truth = {image: mask for (_, image), mask, marked in zip(images, there, marks, strict=True) if marked}
        steps, left = [], 0
        for part, image in images:
            made = list(_steps("KSDD2", part, image, truth.get(image)))
            steps += made
            left += not made
        return Plan("ksdd2", root, target, steps, notes=_notes(left))


@dataclass(frozen=True, kw_only=True)
class Dagm:
    """The owners' split, without the anomalous images that train."""

    categories: Categories = ()
    """Only these. [default: all that are there]"""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; each class may be nested once in a folder of the same name."""
        known = DATASETS["dagm"].categories
        refuse_unknown(self.categories, known, "dagm")
        root = find_level(source, "Class[0-9]*", "dagm")
        steps, left = [], 0
        for name in self.categories or known:
            for part in _PARTS:
                folder = unnested(root / name) / part.capitalize()
                labels = {label.stem.removesuffix("_label"): label for label in list_images(folder / "Label")}
                for image in list_images(folder):
                    made = list(_steps(name, part, image, labels.get(image.stem)))
                    steps += made
                    left += not made
        notes = (*_notes(left), "masks are rough ellipses around the defects")
        return Plan("dagm", root, target, steps, asdict(self), notes)


def _steps(category: str, part: str, image: Path, mask: Path | None) -> Iterator[Step]:
    """The files of an image, and of its mask if it is anomalous; none if it then would train."""
    if mask is None:
        yield Step(f"{category}/{part}/good/{image.name}", image)
    elif part == "test":
        yield Step(f"{category}/test/defect/{image.name}", image)
        yield Step(f"{category}/ground_truth/defect/{image.stem}_mask.png", mask, write_mask)


def _notes(left: int) -> tuple[str, ...]:
    return (f"{left} anomalous images of the part to train are left out: only normal images train",)
