"""The reference's pictures: an anomaly map, stacked or alone, at the image's size; what a decoder drew."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from adcommon.data.preprocess import Preprocess
from adcommon.io.files import atomic_write
from adcommon.models.anomaly_maps import upsample
from adcommon.results.pictures import heat_map

Picture = UInt8[np.ndarray, "height width 3"]


def compound(
    image: Picture,
    mask: Bool[np.ndarray, "mask_height mask_width"] | None,
    anomaly_map: Float[np.ndarray, "map_height map_width"],
    *,
    low: float,
    high: float,
) -> UInt8[np.ndarray, "stack_height width 3"]:
    """On top of each other: image, truth, map in colours that compare between images, map in its own colours.

    A normal image (no mask) has only the first and the third.

    Args:
        low: value of the first colour, which all images of a run share.
        high: value of the last.
    """
    if mask is None:
        return np.concatenate([image, single(image, anomaly_map, low=low, high=high)])
    truth = np.repeat(_resized_mask(mask, image.shape[:2])[..., None].astype(np.uint8) * 255, 3, axis=2)
    resized = _resized_map(anomaly_map, image.shape[:2])
    own = _blend(image, heat_map(resized))
    return np.concatenate([image, truth, single(image, anomaly_map, low=low, high=high), own])


def single(
    image: Picture,
    anomaly_map: Float[np.ndarray, "map_height map_width"],
    *,
    low: float,
    high: float,
) -> Picture:
    """The map over the image, in colours that compare between images."""
    return _blend(image, heat_map(_resized_map(anomaly_map, image.shape[:2]), low, high))


def write_below(path: Path, image: Path, preprocess: Preprocess, drawn: Picture) -> None:
    """Write a JPEG: an image as the network sees it, and below it what was drawn of it."""
    write_jpeg(path, np.concatenate([preprocess.pixels(image), drawn]))


def write_jpeg(path: Path, pixels: np.ndarray) -> None:
    """Write a picture as the reference does, as JPEG."""
    atomic_write(path, lambda file: Image.fromarray(pixels).save(file, format="JPEG", quality=95))


def _blend(image: Picture, colours: Picture) -> Picture:
    """Half of each, truncated."""
    return ((image.astype(np.uint16) + colours) // 2).astype(np.uint8)


def _resized_map(
    anomaly_map: Float[np.ndarray, "map_height map_width"], size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    maps = torch.from_numpy(np.ascontiguousarray(anomaly_map, dtype=np.float32))[None]
    return upsample(maps, size, align_corners=False)[0].numpy()


def _resized_mask(
    mask: Bool[np.ndarray, "mask_height mask_width"], size: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Nearest by OpenCV's rule: output i reads input floor(i * in / out), not the nearest centre."""
    rows, columns = (np.arange(there) * here // there for here, there in zip(mask.shape, size, strict=True))
    return mask[rows][:, columns]
