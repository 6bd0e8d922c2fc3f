"""`winclip-test`'s work: the test images of a category through WinCLIP, its metrics, its pictures."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from adcommon.data.normalise import normalise
from adcommon.data.preprocess import Preprocess
from adcommon.errors import BadValue
from adcommon.evaluation.collect import Scores
from adcommon.evaluation.measure import measure
from adcommon.io.files import atomic_write
from adcommon.io.images import open_image
from adcommon.models.compute import Compute
from adcommon.results.picture_names import names_of
from adcommon.results.pictures import glow, overlay, png, steps
from adcommon.results.rows import row
from adcommon.types.arithmetic import Precision
from adcommon.types.facts import Facts
from adcommon.types.records import Split
from inctrl.backbone import resolve_clip
from inctrl.metrics import winclip_metrics
from inctrl.network.clip import MEAN, STD, build_clip, model_config, text_features
from inctrl.winclip.model import Encoded, Judged, encode, judge
from inctrl.winclip.tiles import Box, Tiles, cut

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WinCLIP:
    """A frozen CLIP and how images are made for it."""

    clip: open_clip.CLIP
    backbone: str
    weights: str
    preprocess: Preprocess
    tiles: Tiles
    compute: Compute
    """How the image tower is computed."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.clip.visual.grid_size[0], self.clip.visual.grid_size[1]

    def encode(self, path: Path, *, windows: bool) -> tuple[Encoded, list[Box]]:
        """The tiles of an image file, and where they lie."""
        pixels, boxes = cut(path, self.preprocess.size, self.tiles)
        device = next(self.clip.parameters()).device
        images = normalise(torch.from_numpy(pixels).to(device), self.preprocess)
        with self.compute.arithmetic():
            encoded = encode(self.clip.visual, images, windows=windows)
        windows_fp32 = tuple(features.float() for features in encoded.windows)
        return Encoded(encoded.pooled.float(), windows_fp32, encoded.patches.float()), boxes


def load_winclip(
    backbone: str,
    tag: str,
    weights: str,
    *,
    tiles: Tiles,
    precision: Precision = "fp32",
    compile: bool = False,
    device: torch.device | str = "cpu",
) -> WinCLIP:
    """A CLIP by open_clip's name, ready to score.

    Args:
        backbone: name, or a JSON file.
        tag: which weights are meant by "pretrained".
        compile: let torch.compile make the image tower's transformer faster.
    """
    config = model_config(backbone)
    clip = build_clip(config, resolve_clip(backbone, tag, weights)).to(device)
    if compile:
        clip.visual.transformer.compile()
    preprocess = Preprocess(
        image_size=clip.visual.image_size[0], interpolation="bicubic", rgb="last", mean=MEAN, std=STD
    )
    compute = Compute(torch.device(device)).asked(precision, compiles=False)
    return WinCLIP(clip, backbone, weights, preprocess, tiles, compute)


def score_target(
    winclip: WinCLIP,
    target: Split,
    *,
    shot: int,
    seed: int,
    draw: Literal["reference", "distinct"],
    name: str | None = None,
    maps: Path | None = None,
) -> tuple[Scores, list[dict[str, Any]]]:
    """Scores of a category's test images, and rows by the standard protocol and by the reference's script.

    Args:
        shot: references; 0: zero-shot, which has no maps.
        name: what the sentences call the images; None: the category.
    """
    began = time.monotonic()
    if maps is not None and not shot:
        raise BadValue("--maps needs --shot of at least 1: the zero-shot score has no map")
    places = choose(len(target.train), shot, seed=seed, draw=draw) if shot else []
    paths = [target.train[place].image for place in places]
    if len(set(paths)) < len(paths):
        logger.warning("%s: %d different images among %d references", target.category, len(set(paths)), shot)
    references = [winclip.encode(path, windows=True)[0] for path in paths]
    text = text_features(winclip.clip, name or target.category, semantic=False)
    scores = np.empty(len(target.test), dtype=np.float32)
    names = names_of(target.test)
    for number, record in enumerate(tqdm(target.test, desc=target.category, unit="image", disable=None)):
        query, boxes = winclip.encode(record.image, windows=bool(shot))
        judged = judge(query, references, text, winclip.grid)
        if not np.isfinite(judged.score):
            raise BadValue(
                f"the score of {record.image} is {judged.score}; the weights or the image are broken"
            )
        scores[number] = judged.score
        if maps is not None:
            picture = maps / target.dataset / target.category / names[number]
            _draw(record.image, judged, boxes, winclip.grid, picture)
    found = Scores(target.test, winclip.preprocess, scores, None)
    evaluation = measure(found, category=target.category)
    theirs = winclip_metrics(scores, found.labels)
    paper = evaluation.under(
        "winclip", image_auroc=theirs.auroc, image_ap=theirs.aupr, image_f1max=theirs.f1max
    )
    facts = Facts(
        method="winclip",
        dataset=target.dataset,
        setting="few-shot" if shot else "zero-shot",
        backbone=winclip.backbone,
        weights=winclip.weights,
        seed=seed,
        shots=shot,
    )
    seconds = time.monotonic() - began
    return found, [
        row(measured, facts, seconds=seconds) | {"tiles": winclip.tiles, "reference_draw": draw}
        for measured in (evaluation, paper)
    ]


def choose(count: int, shots: int, *, seed: int, draw: Literal["reference", "distinct"]) -> list[int]:
    """Positions of the references among `count` normal images.

    Args:
        draw: the reference's draw may take one image twice.
    """
    if not 1 <= shots <= count:
        raise BadValue(f"shots is {shots}; there are {count} normal images, expected at most --shot {count}")
    generator = np.random.RandomState(seed)
    return generator.choice(np.arange(count), shots, replace=draw == "reference").tolist()


def whole_map(
    maps: Float[Tensor, "tiles patches"], boxes: Sequence[Box], grid: tuple[int, int], width: int, height: int
) -> Float[Tensor, "height width"]:
    """The maps of the tiles on the pixels of their image; where tiles overlap, their mean.

    Pixels that no tile shows are 0.
    """
    total, count = torch.zeros(height, width), torch.zeros(height, width)
    for values, (left, top, right, bottom) in zip(maps.float().cpu(), boxes, strict=True):
        tile = torch.nn.functional.interpolate(
            values.view(1, 1, *grid), (bottom - top, right - left), mode="bilinear", align_corners=False
        )[0, 0]
        inside = (slice(top, min(bottom, height)), slice(left, min(right, width)))
        total[inside] += tile[: inside[0].stop - top, : inside[1].stop - left]
        count[inside] += 1
    return total / count.clamp_min(1)


def _draw(path: Path, judged: Judged, boxes: Sequence[Box], grid: tuple[int, int], picture: Path) -> None:
    image: Image.Image = open_image(path)
    if judged.maps is not None:
        drawn = whole_map(judged.maps, boxes, grid, *image.size).numpy()
        atomic_write(picture, png(overlay(image, glow(steps(drawn)))))
