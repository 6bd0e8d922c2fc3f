"""Saturated PRO of MVTec LOCO AD: overlap per annotated defect that saturates once enough of it is found.

A region is a channel: one annotated defect, possibly of several parts; channels of an image may overlap. With
S the saturation area of channel C, sPRO(t) is the mean over channels of min(|{map >= t} in C| / S, 1). FPR(t)
counts the pixels outside the union of an image's channels, and all pixels of good images.

Source: Bergmann et al., Beyond Dents and Scratches, IJCV 2022.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Integer, Real

from adcommon.errors import BadValue
from adcommon.metrics.curves import rank, warn_inverted
from adcommon.metrics.inputs import Array, as_numpy, without_nan
from adcommon.metrics.pro import RegionScores

LOCO_LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)
"""False-positive-rate limits of the benchmark; 0.05 is the usual headline."""


Group = Literal["good", "structural", "logical"]


@dataclass(frozen=True)
class Saturation:
    """When a defect counts as found; one entry of the dataset's defects_config.json."""

    defect: str
    threshold: float
    """Share of the defect's area if relative, else number of pixels."""
    relative: bool

    def area(self, pixels: int, scale: float = 1.0) -> int:
        """Saturation area of an annotated defect of so many pixels: between 1 and its area.

        Args:
            pixels: area of the defect.
            scale: pixels at this size for each pixel at the size that absolute thresholds count.
        """
        if self.relative:
            area = math.floor(self.threshold * pixels)
        else:
            area = min(math.floor(self.threshold * scale), pixels)
        return max(1, area)


@dataclass(frozen=True)
class GroupResult:
    """Metrics of one group of anomalies against the good images; fractions, NaN where undefined."""

    auspro: dict[float, float]
    """False-positive-rate limit -> area under the sPRO curve up to it, divided by it."""
    image_auroc: float
    """AUROC of the maps' maxima."""


@dataclass(frozen=True)
class LocoResult:
    """Metrics of one MVTec LOCO category."""

    structural: GroupResult
    logical: GroupResult
    mean: GroupResult
    """Mean of structural and logical: the benchmark's headline."""
    combined: GroupResult
    """All anomalies together: one curve."""


class LocoMetrics:
    """Collects the anomaly maps and annotated channels of one MVTec LOCO category.

    The benchmark evaluates at the original image size; see `update` for others.
    """

    def __init__(self, saturations: dict[int, Saturation]) -> None:
        """Nothing collected yet; `saturations` as `parse_saturations` reads them."""
        self._saturations = saturations
        self._regions: dict[Group, RegionScores] = {group: RegionScores() for group in get_args(Group)}
        self._maxima: dict[Group, list[float]] = {group: [] for group in get_args(Group)}

    def update(
        self,
        image_map: Real[Array, "height width"],
        channels: Integer[Array, "channels mask_height mask_width"],
        group: Group,
        name: str = "image",
        scale: float = 1.0,
    ) -> None:
        """Add one image.

        `image_map`: higher means more anomalous. `channels`: the annotation files of the image, each zero but
        for the pixel value of its defect; none for a good image. `name`: what errors call the image.
        `scale`: pixels of the map for each pixel of the original image, which absolute thresholds count.
        """
        image_map = without_nan(as_numpy(image_map), name, "values of the anomaly map")
        channels = as_numpy(channels)
        if channels.shape[1:] != image_map.shape:
            raise BadValue(
                f"{name}: the anomaly map has shape {image_map.shape} but its channels {channels.shape[1:]}; "
                "expected equal shapes: resize the map to the original image size first"
            )
        if (group == "good") != (len(channels) == 0):
            raise BadValue(
                f"{name}: group '{group}' with {len(channels)} channels; expected none for good images only"
            )
        areas = [
            self._area(channel, f"{name}, channel {number}", scale) for number, channel in enumerate(channels)
        ]
        regions = self._regions[group]
        for channel, area in zip(channels > 0, areas, strict=True):
            highest = np.sort(image_map[channel])[-area:]
            regions.add_regions(highest, np.full(area, 1 / area), 1)
        regions.add_negatives(image_map[~channels.any(axis=0)])
        self._maxima[group].append(float(image_map.max()))

    def compute(self, limits: Sequence[float] = LOCO_LIMITS) -> LocoResult:
        """All metrics of the images so far, exactly; warns once per group whose metrics are undefined."""
        structural = self._measure(("structural",), limits)
        logical = self._measure(("logical",), limits)
        mean = GroupResult(
            {limit: (structural.auspro[limit] + logical.auspro[limit]) / 2 for limit in limits},
            (structural.image_auroc + logical.image_auroc) / 2,
        )
        return LocoResult(structural, logical, mean, self._measure(("structural", "logical"), limits))

    def _area(self, channel: Integer[np.ndarray, "height width"], name: str, scale: float) -> int:
        """Saturation area of one channel; its pixel value says which defect it is."""
        values = np.unique(channel[channel != 0]).tolist()
        if len(values) != 1 or values[0] not in self._saturations:
            known = ", ".join(
                f"{value} ({entry.defect})" for value, entry in sorted(self._saturations.items())
            )
            raise BadValue(f"{name}: pixel values {values} besides 0; expected one of: {known}")
        return self._saturations[values[0]].area(int(np.count_nonzero(channel)), scale)

    def _measure(self, groups: tuple[Group, ...], limits: Sequence[float]) -> GroupResult:
        """Metrics of the good images and these groups."""
        regions = RegionScores()
        for group in ("good", *groups):
            regions.merge(self._regions[group])
        maxima = {group: np.array(self._maxima[group]) for group in ("good", *groups)}
        labels = np.concatenate([np.full(len(values), group != "good") for group, values in maxima.items()])
        images = rank(np.concatenate(list(maxima.values())), labels)
        result = GroupResult({limit: regions.aupro(limit) for limit in limits}, images.auroc())
        name = " and ".join(groups)
        if np.isnan([*result.auspro.values(), result.image_auroc]).any():
            warnings.warn(
                f"AU-sPRO or image AUROC of the {name} anomalies undefined (NaN): {images.negatives} good "
                f"and {len(images.positives)} anomalous images with {regions.regions} channels",
                stacklevel=3,
            )
        warn_inverted(f"{name} image AUROC", result.image_auroc)
        return result
