"""Changes of one channel of a colour space, the others kept: brightness in six spaces, hue and saturation.

The spaces are OpenCV's for 8-bit images. The channel that changes is rounded to 8 bits as there; the others
keep their fractions, so that a picture that is not changed stays as it is.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32, UInt8

from realnet.synthesis.opencv import grey

Image = UInt8[np.ndarray, "height width 3"]
Channel = Float32[np.ndarray, "height width"]
Change = Callable[[Channel], Channel]
"""From brightness in 0..255 to another, which is rounded and clipped afterwards."""

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=np.float32,
)
"""Linear sRGB to XYZ under D65; each row is divided by the white point below."""
_WHITE = _TO_XYZ.sum(axis=1)
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_DARK = 6 / 29
"""CIE's f(t), the cube root, is a line below the cube of this."""


def change_luma(image: Image, change: Change) -> Image:
    """Y of YCrCb and of YUV: the same amount is added to all three channels."""
    luma = grey(image).astype(np.float32)
    return _levels(image + (_rounded(change(luma)) - luma)[..., None])


def change_value(image: Image, change: Change) -> Image:
    """V of HSV, the largest channel: all three are scaled."""
    value, _ = _extremes(image)
    new = _rounded(change(value))
    scaled = image * (new / np.maximum(value, 1))[..., None]
    return _levels(np.where(value[..., None] > 0, scaled, new[..., None]))


def change_lightness(image: Image, change: Change) -> Image:
    """L of HLS, midway between the largest and the smallest channel; saturation is relative to its limits."""
    high, low = _extremes(image)
    lightness = (high + low) / 2
    new = _rounded(change(np.rint(lightness)))
    room = np.maximum(255 - abs(2 * lightness - 255), 1)  # the chroma possible at this lightness
    scale = (255 - abs(2 * new - 255)) / room
    return _levels(new[..., None] + (image - lightness[..., None]) * scale[..., None])


def change_lab_lightness(image: Image, change: Change) -> Image:
    """L of Lab: the same amount is added to the cube roots of X, Y and Z, relative to white."""
    roots = _root(_linear(image) @ (_TO_XYZ / _WHITE[:, None]).T)
    lightness = 116 * roots[..., 1] - 16
    new = _rounded(change(np.rint(lightness * 2.55))) / 2.55
    return _gamma_encoded((_cube(roots + ((new - lightness) / 116)[..., None]) * _WHITE) @ _FROM_XYZ.T)


def change_luv_lightness(image: Image, change: Change) -> Image:
    """L of Luv: chromaticity moves towards white as the lightness grows."""
    xyz = _linear(image) @ _TO_XYZ.T
    white = _chromaticity(_WHITE)
    lightness = 116 * _root(xyz[..., 1]) - 16
    new = _rounded(change(np.rint(lightness * 2.55))) / 2.55
    ratio = np.where(new > 0, lightness / np.maximum(new, 1e-6), 0)
    u, v = np.moveaxis(white + (_chromaticity(xyz) - white) * ratio[..., None], -1, 0)
    y = _cube((new + 16) / 116)
    v = np.maximum(v, 1e-3)  # far out of all colours, where it would divide by zero
    changed = np.stack([y * 9 * u / (4 * v), y, y * (12 - 3 * u - 20 * v) / (4 * v)], axis=-1)
    return _gamma_encoded(changed @ _FROM_XYZ.T)


BRIGHTNESS = {
    "YCrCb": change_luma,
    "HSV": change_value,
    "HLS": change_lightness,
    "Lab": change_lab_lightness,
    "Luv": change_luv_lightness,
    "YUV": change_luma,
}
"""The function that changes the brightness of each space."""


def add_to_hue_and_saturation(image: Image, hue: int, saturation: int) -> Image:
    """Turn the hue by 2 degrees times `hue`, and add to the saturation, whose range is 0..255."""
    high, low = _extremes(image)
    chroma = np.maximum(high - low, 1)
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    sextant = np.select(
        [high == red, high == green],
        [(green - blue) / chroma, 2 + (blue - red) / chroma],
        4 + (red - green) / chroma,
    )
    sextant = (np.rint(sextant * 30) + hue) / 30 % 6
    relative = np.rint((high - low) * 255 / np.maximum(high, 1))
    chroma = high * (relative + saturation).clip(0, 255) / 255
    channels = []
    for offset in (5, 3, 1):
        place = np.where(sextant < 6 - offset, sextant + offset, sextant + (offset - 6))
        channels.append(high - chroma * np.minimum(place, 4 - place).clip(0, 1))
    return _levels(np.stack(channels, axis=-1))


def _extremes(image: Image) -> tuple[Channel, Channel]:
    """The largest and the smallest channel of each pixel."""
    red, green, blue = np.moveaxis(image, -1, 0)
    high, low = (extreme(extreme(red, green), blue) for extreme in (np.maximum, np.minimum))
    return high.astype(np.float32), low.astype(np.float32)


def _levels(values: Float[np.ndarray, "height width 3"]) -> Image:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _rounded(values: Channel) -> Channel:
    return np.rint(values).clip(0, 255)


def _linear(image: Image) -> Float32[np.ndarray, "height width 3"]:
    """Light of each channel in [0, 1], without sRGB's gamma."""
    levels = np.arange(256, dtype=np.float32) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)[image]


def _gamma_encoded(light: Float[np.ndarray, "height width 3"]) -> Image:
    light = light.clip(0, 1)
    return _levels(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _root(ratio: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.where(ratio > _DARK**3, np.cbrt(ratio), ratio / (3 * _DARK**2) + 4 / 29)


def _cube(root: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.where(root > _DARK, root**3, 3 * _DARK**2 * (root - 4 / 29))


def _chromaticity(xyz: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 2"]:
    """CIE's u' and v'; those of black are 0."""
    total = xyz @ np.array([1, 15, 3], dtype=np.float32)
    return xyz[..., :2] * np.array([4, 9], dtype=np.float32) / np.maximum(total, 1e-9)[..., None]
