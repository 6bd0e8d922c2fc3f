"""What passes between loader, method and measurement; no logic.

Arrays are torch tensors between loader, method and measurement, and NumPy arrays where there is no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int64

if TYPE_CHECKING:
    import torch

    from adcommon.data.preprocess import Preprocess

Array = Any
"""A torch tensor or a NumPy array; shapes and dtypes stand beside it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loader yields."""

    images: Float[Array, "batch 3 height width"]
    """Normalised by the `Preprocess` that made them."""
    masks: Bool[Array, "batch mask_height mask_width"]
    """True = anomalous; all False where no pixel truth exists."""
    labels: Int64[Array, " batch"]
    """0 normal, 1 anomalous."""
    indices: Int64[Array, " batch"]
    """Positions in the dataset's records."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def to(self, device: "torch.device | str") -> "Batch":
        """The same batch with its images on `device`; the rest stays where it is."""
        return Batch(self.images.to(device, non_blocking=True), self.masks, self.labels, self.indices)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; called by the loader when copies to a GPU follow."""
        return Batch(
            self.images.pin_memory(),
            self.masks.pin_memory(),
            self.labels.pin_memory(),
            self.indices.pin_memory(),
        )


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
