"""A trained picture decoder, from what a training left or from the authors' files."""

from pathlib import Path

import torch

from adcommon.data.preprocess import Preprocess
from adcommon.errors import WrongCheckpoint
from adcommon.models.checkpoint import load_model, load_strict
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
        config, tensors = load_model(found, method=METHOD)
        preprocess, stride = Preprocess(**config["preprocess"]), config["recipe"]["out_stride"]
    if "layer4.0.conv1.weight" not in tensors:
        raise WrongCheckpoint(f"{found} is no picture decoder: it has no layer4")
    decoder = VisDecoder(tensors["layer4.0.conv1.weight"].shape[1], stride)
    load_strict(decoder, tensors, where=str(found))
    return decoder.eval().to(device), preprocess
