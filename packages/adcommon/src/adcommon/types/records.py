"""Plain facts about files and results; no torch, no logic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adcommon.types.names import check_category, check_name

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, pixels; the last two are outside."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image on disk; nothing is loaded."""

    image: Path
    category: str
    """Object or texture class: "bottle"."""
    label: int
    """0 normal, 1 anomalous."""
    defect: str = "good"
    """Kind of anomaly, the name of its test folder: "broken_large"."""
    mask: Path | None = None
    """Ground-truth mask, or a folder of masks that belong together; None: normal, or without pixel truth."""
    mask_upright: bool | None = None
    """True: the mask is drawn on the upright picture, False: on the stored one, where EXIF makes a difference
    that its size does not tell; None: on the picture as it is loaded."""
    box: Box | None = None
    """The part of the image that is looked at, on the image as it is loaded; None: all of it."""

    def __post_init__(self) -> None:
        """Refuse names that cannot be those of folders: results and pictures lie in such."""
        check_category(self.category)
        check_name(self.defect, "defect")


@dataclass(frozen=True, slots=True)
class Split:
    """The training and test images of one category, each sorted by relative path."""

    train: list[Record]
    test: list[Record]
    dataset: str = field(default="folder", compare=False)
    """Name in the catalogue; "folder" for images of one's own."""

    @property
    def category(self) -> str:
        """Of its images."""
        return next(iter([*self.train, *self.test])).category

    @property
    def pixel_truth(self) -> bool:
        """True if pixel metrics are defined on the test images."""
        return has_pixel_truth(self.test)


def has_pixel_truth(records: Sequence[Record]) -> bool:
    """True if there are anomalous images and each of them has a mask."""
    anomalous = [record for record in records if record.label == 1]
    return bool(anomalous) and all(record.mask is not None for record in anomalous)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Result of one detector on the test images of one category under one protocol.

    Metrics are fractions in [0, 1]; NaN where a metric is undefined (a warning said why);
    None where the dataset has no pixel truth or the method no maps.
    """

    category: str
    protocol: str = "standard"
    """"standard", or a paper's own ("recontrast"), whose numbers do not compare with others."""
    normal: int
    """Number of normal test images."""
    anomalous: int
    """Number of anomalous test images."""
    regions: int | None = None
    """Number of connected anomalous regions."""
    image_auroc: float
    image_ap: float
    image_f1max: float
    image_auroc_low: float | None = None
    """Lower end of the AUROC's 95 % bootstrap interval over the test images."""
    image_auroc_high: float | None = None
    """Its upper end."""
    image_threshold: float
    """Image score at which F1 is highest; chosen with test labels, so an oracle."""
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    pixel_f1max: float | None = None
    pixel_threshold: float | None = None
    aupro: float | None = None
    """Area under the per-region-overlap curve up to 30 % false-positive rate, divided by 0.3."""
    aupro_05: float | None = None
    """The same up to 5 %."""
    map_size: str | None = None
    """Size at which pixel metrics were taken: "256x256", or "original"."""
    data: str | None = None
    """Digest of the test images, their masks and labels: numbers compare where it is equal."""
    certified: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By name of a pixel metric that was computed in bounded memory: the ends of the interval that certainly
    holds its exact value. The others are exact."""
    extra: dict[str, float] = field(default_factory=dict)
    """Further values a protocol reports, by name ("image_accuracy")."""

    def under(
        self,
        protocol: str,
        *,
        image_auroc: float | None = None,
        image_ap: float | None = None,
        image_f1max: float | None = None,
        pixel_auroc: float | None = None,
        pixel_ap: float | None = None,
        pixel_f1max: float | None = None,
        aupro: float | None = None,
        labels: Sequence[bool] | None = None,
        extra: Mapping[str, float] | None = None,
    ) -> "Evaluation":
        """The same images under a paper's own protocol.

        Of the standard numbers those of images stay where the paper says nothing else; pixel metrics are the
        paper's or None.

        Args:
            labels: which images count as anomalous, where the paper does not go by the folder.
        """
        return replace(
            self,
            protocol=protocol,
            normal=self.normal if labels is None else len(labels) - sum(labels),
            anomalous=self.anomalous if labels is None else sum(labels),
            regions=None,
            image_auroc_low=self.image_auroc_low if image_auroc is None else None,
            image_auroc_high=self.image_auroc_high if image_auroc is None else None,
            image_auroc=self.image_auroc if image_auroc is None else image_auroc,
            image_ap=self.image_ap if image_ap is None else image_ap,
            image_f1max=self.image_f1max if image_f1max is None else image_f1max,
            pixel_auroc=pixel_auroc,
            pixel_ap=pixel_ap,
            pixel_f1max=pixel_f1max,
            pixel_threshold=None,
            aupro=aupro,
            aupro_05=None,
            certified={},
            extra=dict(extra or {}),
        )
