"""Pixels -> what a network takes, and back; on whatever device the pixels are."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from adcommon.data.preprocess import Preprocess


def normalise(
    pixels: UInt8[np.ndarray, "batch height width 3"] | UInt8[Tensor, "batch height width 3"],
    preprocess: Preprocess,
) -> Float[Tensor, "batch 3 height width"]:
    """Pixels -> [0, 1], then minus the mean, divided by the standard deviation of each channel."""
    images = torch.as_tensor(np.array(pixels) if isinstance(pixels, np.ndarray) else pixels)
    images = images.permute(0, 3, 1, 2).contiguous().float().div_(255)
    mean = torch.tensor(preprocess.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(preprocess.std, device=images.device).view(3, 1, 1)
    return images.sub_(mean).div_(std)


def unnormalise(
    images: Float[Tensor, "batch 3 height width"], preprocess: Preprocess
) -> UInt8[np.ndarray, "batch height width 3"]:
    """The pixels that `normalise` had, rounded."""
    images = images.detach().float().cpu()
    mean = torch.tensor(preprocess.mean).view(3, 1, 1)
    std = torch.tensor(preprocess.std).view(3, 1, 1)
    pixels = ((images * std + mean) * 255).round_().clamp_(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
