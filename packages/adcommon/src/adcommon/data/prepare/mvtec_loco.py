"""MVTec LOCO with one mask for each image, its channels beside it; the download can also be read as it is.

    <source>/pushpins                              <target>/pushpins
      train/good, validation/good, test/...          the same
      ground_truth/logical_anomalies/004/000.png     ground_truth/logical_anomalies/004_mask.png, the union
      ground_truth/logical_anomalies/004/001.png     ground_truth_channels/logical_anomalies/004/000.png, ...
      defects_config.json                            defects_config.json

A channel is one defect: 0, and one value that `defects_config.json` explains. Channels and their saturation
areas are what the sPRO of the dataset's paper needs. ReContrast and ResAD read the first channel only, which
`first_channel_only` reproduces. Source: Bergmann et al., IJCV 130, 2022.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from adcommon.data.catalog import DATASETS
from adcommon.data.loco import CONFIG, channel_value, read_saturations
from adcommon.data.prepare.plan import Plan, Step
from adcommon.data.prepare.raw import find_tree, shorten, write_mask
from adcommon.data.sources.layouts import scan_category
from adcommon.errors import BadValue, MaskMissing, MaskSizeMismatch
from adcommon.io.images import image_size, list_images


@dataclass(frozen=True, kw_only=True)
class MvtecLoco:
    """The channels of each mask united."""

    first_channel_only: bool = False
    """Masks are the first channel alone, without the others, as ReContrast and ResAD read them."""

    def plan(self, source: Path, target: Path) -> Plan:
        """See the module; `source` has breakfast_box, juice_bottle, ..."""
        root = find_tree(source, "mvtec_loco")
        categories = [name for name in DATASETS["mvtec_loco"].categories if (root / name).is_dir()]
        masks = "the first channel alone" if self.first_channel_only else "the union of all channels"
        return Plan(
            dataset="mvtec_loco",
            source=root,
            folder=target,
            steps=[step for name in categories for step in self._steps(root / name, name)],
            options=asdict(self),
            notes=(f"masks are {masks}", "validation is not read as training data, as in ResAD"),
        )

    def _steps(self, folder: Path, category: str) -> Iterator[Step]:
        values = read_saturations(folder / CONFIG)
        scan = scan_category(folder, category)
        if scan.wrong:
            raise BadValue(scan.wrong[0])
        if scan.missing:
            raise MaskMissing(f"{len(scan.missing)} anomalous images have no mask: {shorten(scan.missing)}")
        yield Step(f"{category}/{CONFIG}", folder / CONFIG)
        for image in list_images(folder / "validation/good"):
            yield Step(f"{category}/validation/good/{image.name}", image)
        for record in [*scan.split.train, *scan.split.test]:
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
