"""What passes between loader, method and measurement; no logic.

Arrays are torch tensors between loader, method and measurement, and NumPy arrays where there is no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int64, UInt8

if TYPE_CHECKING:
    from adcommon.data.preprocess import Preprocess

Array = Any
"""A torch tensor or a NumPy array; shapes and dtypes stand beside it."""


@dataclass(frozen=True, slots=True)
class PixelBatch:
    """What is read of images: a quarter of a `Batch`'s bytes, on their way to the device."""

    pixels: UInt8[Array, "batch height width 3"]
    masks: Bool[Array, "batch mask_height mask_width"]
    labels: Int64[Array, " batch"]
    indices: Int64[Array, " batch"]

    def pin_memory(self) -> "PixelBatch":
        """The same in page-locked memory, which a GPU copies from while the host goes on."""
        return replace(self, pixels=self.pixels.pin_memory())


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loader yields."""

    images: Float[Array, "batch 3 height width"]
    """Normalised by the `Preprocess` that made them; on the device that the loader was told."""
    masks: Bool[Array, "batch mask_height mask_width"]
    """True = anomalous; all False where no pixel truth exists."""
    labels: Int64[Array, " batch"]
    """0 normal, 1 anomalous."""
    indices: Int64[Array, " batch"]
    """Positions in the dataset's records."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a detector says of a batch; higher means more anomalous, no fixed range."""

    image_scores: Float[Array, " batch"]
    anomaly_maps: Float[Array, "batch height width"] | None
    """None: the method scores images only."""
    extra_scores: Mapping[str, Float[Array, " batch"]] = field(default_factory=dict)
    """Further image scores of a paper, by its names of them."""

    @property
    def peaks(self) -> list[float]:
        """The largest value of each map; none where there are no maps."""
        maps = self.anomaly_maps
        if maps is None:
            return []
        highest = maps.amax((1, 2)) if hasattr(maps, "amax") else maps.max((1, 2))  # a tensor, or NumPy's
        return list(map(float, highest.tolist()))


@runtime_checkable
class Detector(Protocol):
    """A trained method, bound to all it needs besides the image; nobody inherits from it."""

    preprocess: "Preprocess"

    def score(self, images: Float[Array, "batch 3 height width"]) -> Prediction:
        """Scores and maps of preprocessed images, which may be on any device.

        Pure, in evaluation mode, and independent of how images are batched; several threads call it at once.
        """
        ...


@runtime_checkable
class ComparesWithReferences(Detector, Protocol):
    """A detector of a few-shot method."""

    def left_out(self) -> Prediction:
        """What the detector of all others says of each reference; of none if these would be too few."""
        ...
