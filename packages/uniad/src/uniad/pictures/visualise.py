"""What the transformer rebuilds, and what its queries have learned, drawn by the picture decoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from tqdm import tqdm

from adcommon.data.loading import AnomalyDataset, test_batches
from adcommon.data.normalise import unnormalise
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue, DatasetNotFound, WrongCheckpoint
from adcommon.io.arrays import read_array
from adcommon.results.picture_names import names_of
from adcommon.types.records import Record
from uniad.detector import UniADDetector
from uniad.pictures.decoder import VisDecoder
from uniad.pictures.drawing import write_below

CAPTION_PX = 24
"""Height of the captions' font; capitals are some 17 pixels high."""


def draw_reconstructions(
    detector: UniADDetector, decoder: VisDecoder, records: Sequence[Record], folder: Path, *, batch_size: int
) -> int:
    """Write `<defect>/<image>.jpg` for each image: the input above its decoded reconstruction.

    Returns:
        Number of pictures.
    """
    dataset = AnomalyDataset(records, detector.preprocess)
    names = names_of(records, ".jpg")
    for batch in tqdm(test_batches(dataset, batch_size), desc="drawing", unit="batch", disable=None):
        with torch.inference_mode():
            rebuilt = detector.model.rebuilt(batch.images.to(detector.device))
            drawn = unnormalise(decoder(rebuilt), detector.preprocess)
        for index, picture in zip(batch.indices.tolist(), drawn, strict=True):
            write_below(folder / names[index], records[index].image, detector.preprocess, picture)
    return len(records)


def draw_saved_features(
    features: Path,
    decoder: VisDecoder,
    preprocess: Preprocess,
    records: Sequence[Record],
    folder: Path,
) -> int:
    """The same from the files `<defect>/<image>.npy` that `uniad-evaluate --save-features` wrote.

    Raises:
        DatasetNotFound: a file is missing.
    """
    places = zip(records, names_of(records, ".npy"), names_of(records, ".jpg"), strict=True)
    for record, stored, picture in tqdm(places, "drawing", len(records), unit="image", disable=None):
        path = features / stored
        if not path.is_file():
            raise DatasetNotFound(
                f"no features of {record.image} at {path}; write them with uniad-evaluate --save-features"
            )
        stored = read_array(path, "f")
        channels = decoder.get_parameter("layer4.0.conv1.weight").shape[1]
        if stored.ndim != 3 or len(stored) != channels:
            raise WrongCheckpoint(f"{path} has shape {stored.shape}; expected ({channels}, height, width)")
        rebuilt = torch.from_numpy(np.array(stored, dtype=np.float32))[None]
        with torch.inference_mode():
            drawn = unnormalise(decoder(rebuilt.to(next(decoder.parameters()).device)), preprocess)[0]
        write_below(folder / picture, record.image, preprocess, drawn)
    return len(records)


def draw_queries(
    detector: UniADDetector,
    decoder: VisDecoder,
    *,
    batch_statistics: bool = False,
    captions: bool = True,
    seed: int = 0,
) -> UInt8[np.ndarray, "height width 3"]:
    """Tiles side by side: random, all-one and all-zero queries, then those of each decoder layer.

    Args:
        batch_statistics: as `decode_queries`.
        captions: write what each tile is.
        seed: of the random queries.
    """
    if detector.model.whitening is not None:
        raise BadValue("queries are drawn of models trained with --no-whiten alone")
    network = detector.model.reconstruction
    hidden = network.output_proj.in_features
    count = network.grid[0] * network.grid[1]
    device = detector.device
    generator = torch.Generator().manual_seed(seed)
    queries = {
        "baseline rand": torch.rand(count, hidden, generator=generator).to(device),
        "baseline ones": torch.ones(count, hidden, device=device),
        "baseline zeros": torch.zeros(count, hidden, device=device),
    }
    for number, layer in enumerate(network.transformer.decoder.layers):
        if layer.learned_embed is not None:
            queries[f"query layer{number}"] = layer.learned_embed.weight.detach()  # type: ignore[union-attr, operator]
    with torch.inference_mode():
        tiles = decode_queries(
            list(queries.values()),
            network.grid,
            network.output_proj,
            decoder,
            detector.preprocess,
            batch_statistics=batch_statistics,
        )
    pixels = tiles.clamp(0, 255).cpu().numpy().astype(np.uint8)
    sheet = Image.fromarray(np.concatenate(list(pixels), axis=1))
    if captions:
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=CAPTION_PX)
        height, width = pixels.shape[1:3]
        for number, name in enumerate(queries):
            place = (number * width + 10, height - 10)
            pen.text(place, name, fill=(0, 0, 255), font=font, anchor="ls")
    return np.asarray(sheet)


def decode_queries(
    queries: Sequence[Float[Tensor, "tokens hidden"]],
    grid: tuple[int, int],
    projection: nn.Linear,
    decoder: VisDecoder,
    preprocess: Preprocess,
    *,
    batch_statistics: bool = False,
) -> Float[Tensor, "tiles height width 3"]:
    """Each grid of queries, projected to features and drawn; 0 to 255, not clipped.

    Args:
        batch_statistics: let batch norm use the statistics of each tile alone, as the reference does, which
            never leaves training mode here. Constant queries then show little but amplified rounding.
    """
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    was_training = decoder.training
    decoder.train(batch_statistics)
    # Batch statistics also move the running ones, which must stay as they are.
    kept = {name: value.clone() for name, value in decoder.state_dict().items()}
    tiles = []
    for tokens in queries:
        features = projection(tokens).T.unflatten(1, grid)[None]
        drawn = decoder(features)[0]
        tiles.append((drawn * std.to(drawn) + mean.to(drawn)).permute(1, 2, 0) * 255)
    decoder.load_state_dict(kept)
    decoder.train(was_training)
    return torch.stack(tiles)
