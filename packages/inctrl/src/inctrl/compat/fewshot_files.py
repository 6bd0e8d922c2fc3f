"""InCTRL's few-shot files `<category>.pt`: the reference images themselves, preprocessed (arXiv 2403.06495).

A file holds a list of k tensors of one shape, 3 x height x width, float32: resized, cropped and normalised.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from adcommon.errors import WrongCheckpoint
from adcommon.io.files import atomic_write
from adcommon.models.pickles import load_safely


def read_few_shot_file(path: Path, size: int | None = None) -> Float[Tensor, "shots 3 height width"]:
    """The reference images of a few-shot file; no code of the file runs.

    Args:
        path: a file of the authors, or of `write_few_shot_file`; one stacked tensor is accepted too.
        size: side that the images must have, pixels.

    Raises:
        WrongCheckpoint: no such file, a damaged one, or one that holds something else.
    """
    content = load_safely(path)
    if isinstance(content, Tensor) and content.ndim == 4:
        content = list(content)
    if not isinstance(content, list | tuple) or not content:
        raise WrongCheckpoint(f"{path} is no few-shot file: {_called(content)}; expected a list of images")
    for number, image in enumerate(content, start=1):
        fits = isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] == 3
        if not fits or not image.is_floating_point() or image.shape != content[0].shape:
            raise WrongCheckpoint(
                f"{path}, image {number}: {_called(image)}; expected a float tensor of shape "
                "(3, height, width), equal for all images"
            )
        if size is not None and tuple(image.shape[1:]) != (size, size):
            raise WrongCheckpoint(f"{path}, image {number}: {_called(image)}; expected {size}x{size} pixels")
        if not image.isfinite().all():
            raise WrongCheckpoint(f"{path}, image {number}: not all of its values are numbers")
    return torch.stack([image.float() for image in content])


def write_few_shot_file(path: Path, images: Sequence[Float[Tensor, "3 height width"]]) -> None:
    """Write preprocessed reference images as InCTRL's programs read them."""
    content = [image.detach().to("cpu", torch.float32).clone() for image in images]
    atomic_write(path, lambda file: torch.save(content, file))


def _called(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
