"""MVTec 3D-AD and MVTec LOCO AD in the layout of MVTec AD; both downloads can also be read as they are.

    <source>/bagel                                 <target>/bagel
      train/good/rgb/000.png                         train/good/000.png
      validation/good/rgb/000.png                    validation/good/000.png, which is not read
      test/crack/rgb/000.png                         test/crack/000.png
      test/crack/gt/000.png                          ground_truth/crack/000_mask.png
      train/good/xyz/000.tiff                        (coordinates are left out)

    <source>/pushpins                              <target>/pushpins
      train/good, validation/good, test/...          the same
      ground_truth/logical_anomalies/004/000.png     ground_truth/logical_anomalies/004_mask.png, the union
      ground_truth/logical_anomalies/004/001.png     ground_truth_channels/logical_anomalies/004/000.png, ...
      defects_config.json                            defects_config.json

A channel is one defect: 0, and one value that `defects_config.json` explains. Channels and their saturation
areas are what the sPRO of the dataset's paper needs. ReContrast and ResAD read the first channel only, which
`first_channel_only` reproduces.

Source: Bergmann et al., IJCV 130, 2022; ResAD (arXiv 2410.20047), which reads the same images of both.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from adcommon.data.catalog import DATASETS
from adcommon.data.loco import CONFIG, channel_value, read_saturations
from adcommon.data.messages import shorten
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import decode_all, find_tree, has_marks, write_mask
from adcommon.data.sources.layouts import Scan, scan_category, scan_nested
from adcommon.errors import BadValue, MaskMissing, MaskSizeMismatch
from adcommon.io.images import image_size, list_images
from adcommon.types.records import Record

_UNUSED = "validation is not read as training data, as in ResAD"


@dataclass(frozen=True, kw_only=True)
class Mvtec3d:
    """Colour images and masks, without coordinates."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has bagel, cable_gland, ..."""
        root = find_tree(source, "mvtec_3d")
        folders = _folders(root, "mvtec_3d")
        masks = [mask for folder in folders for mask in list_images(folder / "test/good/gt")]
        full = decode_all(has_marks, masks, "reading masks")
        marked = [mask for mask, marks in zip(masks, full, strict=True) if marks]
        if marked:
            raise BadValue(f"{len(marked)} masks of normal images are not empty: {shorten(marked)}")
        steps = [step for folder in folders for step in _colour_steps(folder, folder.name)]
        return Plan("mvtec_3d", root, target, steps, notes=("colour images only", _UNUSED))


@dataclass(frozen=True, kw_only=True)
class MvtecLoco:
    """The channels of each mask united."""

    first_channel_only: bool = False
    """Masks are the first channel alone, without the others, as ReContrast and ResAD read them."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has breakfast_box, juice_bottle, ..."""
        root = find_tree(source, "mvtec_loco")
        steps = [step for folder in _folders(root, "mvtec_loco") for step in self._steps(folder, folder.name)]
        masks = "the first channel alone" if self.first_channel_only else "the union of all channels"
        return Plan("mvtec_loco", root, target, steps, asdict(self), (f"masks are {masks}", _UNUSED))

    def _steps(self, folder: Path, category: str) -> Iterator[Step]:
        values = read_saturations(folder / CONFIG)
        records = _records(scan_category(folder, category))
        yield Step(f"{category}/{CONFIG}", folder / CONFIG)
        for image in list_images(folder / "validation/good"):
            yield Step(f"{category}/validation/good/{image.name}", image)
        for record in records:
            yield Step(f"{category}/{record.image.relative_to(folder).as_posix()}", record.image)
            if record.mask is None:
                continue
            truth = f"{category}/ground_truth/{record.defect}/{record.image.stem}_mask.png"
            channels = list_images(record.mask)
            if not channels:
                raise MaskMissing(
                    f"no channels in {record.mask}; expected a folder of 000.png, ...; is it prepared?"
                )
            if self.first_channel_only:
                yield Step(truth, channels[0], write_mask)
                continue
            yield Step(truth, record.mask, partial(write_union, image=record.image, values=values))
            for channel in channels:
                place = f"{category}/ground_truth_channels/{record.defect}/{record.image.stem}"
                yield Step(f"{place}/{channel.name}", channel)


def write_union(source: Path, target: Path, *, image: Path, values: Collection[int]) -> None:
    """Write the union of the channels in a folder, after a look at each of them.

    Raises:
        BadValue: a channel holds a value that is not explained.
        UnreadableImage: a channel cannot be read, or holds several values.
        MaskSizeMismatch: the channels have not the size of the image.
    """
    for channel in list_images(source):
        if image_size(channel) != image_size(image):
            raise MaskSizeMismatch(f"{channel} has another size than its image {image}")
        value = channel_value(channel)
        if value not in values:
            known = ", ".join(map(str, sorted(values)))
            raise BadValue(f"{channel} holds the value {value}; {CONFIG} explains {known}")
    write_mask(source, target)


def _folders(root: Path, dataset: str) -> list[Path]:
    """The folders of the categories that are there."""
    return [root / name for name in DATASETS[dataset].categories if (root / name).is_dir()]


def _records(scan: Scan) -> list[Record]:
    """All images of a category, unless something is wrong with it."""
    if scan.wrong:
        raise BadValue(scan.wrong[0])
    if scan.missing:
        raise MaskMissing(f"{len(scan.missing)} anomalous images have no mask: {shorten(scan.missing)}")
    return [*scan.split.train, *scan.split.test]


def _colour_steps(folder: Path, category: str) -> Iterator[Step]:
    if not (folder / "train/good/rgb").is_dir():
        raise BadValue(f"{folder} has no train/good/rgb: it is not the download, or it is prepared already")
    records = _records(scan_nested(folder, category, "rgb", "gt"))
    for image in list_images(folder / "validation/good/rgb"):
        yield Step(f"{category}/validation/good/{image.name}", image)
    for record in records:
        part = record.image.parent.parent.relative_to(folder).as_posix()
        yield Step(f"{category}/{part}/{record.image.name}", record.image)
        if record.mask is not None:
            truth = f"{category}/ground_truth/{record.defect}/{record.image.stem}_mask.png"
            yield Step(truth, record.mask, write_mask)
