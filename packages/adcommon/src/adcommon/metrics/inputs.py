"""What the metrics accept: NumPy arrays or torch tensors of any device, checked once at the door."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Real, Shaped

from adcommon.errors import BadValue

Array = Any
"""A NumPy array or a torch tensor of any device; torch is not imported to tell."""


def as_numpy(array: Shaped[Array, "..."] | Sequence[int]) -> Shaped[np.ndarray, "..."]:
    """The same values in the same precision, on the CPU."""
    if not hasattr(array, "detach"):
        return np.asarray(array)
    array = array.detach().cpu()
    # NumPy has no bfloat16
    return (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()


def without_nan(
    scores: Real[np.ndarray, "*shape"], name: str, what: str = "scores"
) -> Real[np.ndarray, "*shape"]:
    """The scores, if none of them is NaN; infinities have a rank and are welcome."""
    if scores.size and np.isnan(scores.min()):
        raise BadValue(
            f"{name}: {int(np.isnan(scores).sum())} of {scores.size} {what} are NaN, which has no rank; "
            "expected numbers (-inf, inf are allowed); look for a learning rate that was too high, a "
            "division by zero or an overflow in the model"
        )
    return scores


def binary_labels(labels: Shaped[Array, "..."] | Sequence[int]) -> Bool[np.ndarray, "..."]:
    """Labels as booleans, True = anomalous."""
    labels = as_numpy(labels)
    strange = labels[(labels != 0) & (labels != 1)]
    if strange.size:
        raise BadValue(f"a label is {strange[0]}; expected 0 (normal) or 1 (anomalous)")
    return labels.astype(bool)


def scores_and_labels(
    scores: Real[Array, "*shape"], labels: Shaped[Array, "*label_shape"]
) -> tuple[Real[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Both flat, checked, of one length."""
    if tuple(scores.shape) != tuple(labels.shape):
        raise BadValue(
            f"scores have shape {tuple(scores.shape)} but labels {tuple(labels.shape)}; expected equal shapes"
        )
    return without_nan(as_numpy(scores), "scores", "values").ravel(), binary_labels(labels).ravel()


def binary_mask(mask: Shaped[np.ndarray, "height width"], name: str) -> Bool[np.ndarray, "height width"]:
    """True where the mask is positive; a float mask must hold 0 and at most one other value."""
    if mask.dtype.kind == "f":
        marked = mask[mask != 0]
        if marked.size and not (marked[0] > 0 and (marked == marked[0]).all()):
            raise BadValue(
                f"{name}: the mask is {mask.dtype} with {np.unique(mask).size} different values; expected 0 "
                "and one other, because an interpolated mask has no clear edge: resize masks with nearest"
            )
    return mask > 0


def paired_images(
    maps: Real[Array, "*stack height width"],
    masks: Shaped[Array, "*mask_stack mask_height mask_width"],
    names: Sequence[str] | None,
    first: int,
) -> Iterator[tuple[str, Real[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]]:
    """Name, map and mask of each image of a stack, or of the one image given.

    Args:
        maps: higher means more anomalous.
        masks: anything positive is anomalous.
        names: what errors call the images; default "image 0", "image 1", ...
        first: number of the first image.
    """
    maps, masks = as_numpy(maps), as_numpy(masks)
    if maps.shape != masks.shape:
        raise BadValue(
            f"anomaly maps have shape {maps.shape} but masks {masks.shape}; expected equal shapes: bring "
            "both to one evaluation size first (maps bilinear, masks nearest)"
        )
    if maps.ndim not in (2, 3):
        raise BadValue(
            f"anomaly maps have shape {maps.shape}; expected (height, width) or (images, height, width)"
        )
    if maps.ndim == 2:
        maps, masks = maps[None], masks[None]
    if names is None:
        names = [f"image {number}" for number in range(first, first + len(maps))]
    if len(names) != len(maps):
        raise BadValue(f"{len(names)} names for {len(maps)} anomaly maps; expected one name per map")
    for name, image_map, mask in zip(names, maps, masks, strict=True):
        yield name, without_nan(image_map, name, "values of the anomaly map"), binary_mask(mask, name)


def empty_masks(
    images: Sequence[tuple[str, Real[np.ndarray, "_ _"], Bool[np.ndarray, "_ _"]]],
    labels: Shaped[Array, " labels"] | Sequence[int] | None,
) -> list[str]:
    """Names of the `paired_images` that are labelled anomalous and have an empty mask."""
    if labels is None:
        return []
    anomalous = binary_labels(labels)
    if len(anomalous) != len(images):
        raise BadValue(f"{len(anomalous)} labels for {len(images)} anomaly maps; expected one per map")
    return [
        name for (name, _, mask), label in zip(images, anomalous, strict=True) if label and not mask.any()
    ]
