"""When a defect of MVTec LOCO AD counts as found: `defects_config.json`, and the channels that it explains.

    <category>/defects_config.json
    <category>/ground_truth/<group>_anomalies/<image>/<channel>.png    (prepared: ground_truth_channels/...)

A channel is one annotated defect, of one part or several; its pixels are 0 or the value of its kind.

Source: Bergmann et al., Beyond Dents and Scratches, IJCV 2022.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from adcommon.errors import BadValue, UnreadableImage
from adcommon.io.images import mask_values
from adcommon.metrics.spro import Group, Saturation
from adcommon.types.records import Record

CONFIG = "defects_config.json"


def parse_saturations(config: str) -> dict[int, Saturation]:
    """Pixel value of a defect's channel -> its saturation, from the text of defects_config.json."""
    saturations = {}
    for entry in json.loads(config):
        threshold = float(entry["saturation_threshold"])
        if not 0 < threshold < math.inf:
            raise ValueError(f"saturation_threshold is {threshold}; expected a positive number")
        saturation = Saturation(str(entry["defect_name"]), threshold, bool(entry["relative_saturation"]))
        saturations[int(entry["pixel_value"])] = saturation
    return saturations


def read_saturations(path: Path) -> dict[int, Saturation]:
    """The saturations of one category by the pixel value of the defect.

    Raises:
        BadValue: not a defects_config.json.
    """
    try:
        return parse_saturations(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadValue(
            f"cannot read {path}: {type(error).__name__}: {error}\n  Expected a list of objects with "
            "defect_name, pixel_value, saturation_threshold and relative_saturation, as MVTec LOCO AD has it."
        ) from None


def find_config(records: Iterable[Record]) -> Path | None:
    """The defects_config.json beside the folders of channels; None if the masks of these records are none.

    AutoVI has files of that name, too, and other groups: they are none.
    """
    masked = [record for record in records if record.label == 1 and record.mask is not None]
    masks = [record.mask for record in masked if record.mask is not None and group_of(record) is not None]
    if not masks or len(masks) < len(masked) or not all(mask.is_dir() for mask in masks):
        return None
    config = masks[0].parent.parent.parent / CONFIG
    return config if config.is_file() else None


def group_of(record: Record) -> Group | None:
    """The group of anomalies that an image belongs to; None for a folder of another name."""
    groups: dict[str, Group] = {
        "good": "good",
        "structural_anomalies": "structural",
        "logical_anomalies": "logical",
    }
    return groups.get(record.defect)


def channel_value(path: Path) -> int:
    """The one value besides 0 of a channel: its kind of defect.

    Raises:
        UnreadableImage: not an image, a damaged one, or one with another number of values.
    """
    values = [int(value) for value in np.unique(mask_values(path)) if value != 0]
    if len(values) != 1:
        raise UnreadableImage(f"the channel {path} has the values {values} besides 0; expected one")
    return values[0]
