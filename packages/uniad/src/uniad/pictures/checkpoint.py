"""A trained picture decoder, from what a training left or from the authors' files."""

from pathlib import Path

import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.models.checkpoint import load_model, load_strict
from adcommon.models.outline import build_to_fit
from uniad.checkpoint import Config
from uniad.compat.official import below, load_checkpoint
from uniad.pictures.decoder import VisDecoder

METHOD = "uniad-decoder"
"""What config.json of a decoder's model folder says."""


def load_decoder(
    path: Path, category: str, device: torch.device | str = "cpu"
) -> tuple[VisDecoder, Preprocess]:
    """A trained decoder, and the preprocessing of the images it draws.

    Args:
        path: a decoder's `model` folder, a run of `uniad-train-decoder`, a checkpoint of the authors, or
            their folder of `<category>/checkpoints/ckpt.pth.tar`.
        category: which decoder, where there are several.
    """
    places = [
        path,
        path / category / "model",
        path / category / "checkpoints" / "ckpt.pth.tar",
        path / "model",
    ]
    found = next((place for place in places if place.is_file() or (place / "config.json").is_file()), None)
    if found is None:
        raise WrongCheckpoint(
            f"no picture decoder of '{category}' in {path}; looked for "
            f"{', '.join(str(place) for place in places)}.\n"
            f"  Train it with: uniad-train-decoder --category {category}"
        )
    if found.is_file():
        tensors = below(load_checkpoint(found).state, "reconstruction.")
        preprocess, stride = Preprocess(image_size=224), 16
    else:
        config, tensors = load_model(found, Config, METHOD)
        preprocess, stride = config.preprocess, config.recipe.out_stride
    first = tensors.get("layer4.0.conv1.weight")
    if first is None or first.ndim != 4:
        raise WrongCheckpoint(f"{found} is no picture decoder: it has no layer4")
    decoder = build_to_fit(
        lambda: VisDecoder(first.shape[1], stride),
        lambda decoder: load_strict(decoder, tensors, where=str(found)),
        tensors,
        str(found),
    )
    return decoder.eval().to(device), preprocess
