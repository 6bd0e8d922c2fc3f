"""InCTRL: a test image and a training epoch, against loops as the reference runs them, in one run.

Test image: the reference-style loop encodes the 242 sentences and the references again for every query and
compares patches in a Python loop; ours does both once. Training epoch: without kept features a step decodes
and encodes its queries and their references; ours computes the features of every image in the first epoch
and reads them in each later one. The text is kept in both, although the reference encodes that anew too.
All start from the same weights, see the same queries and references, and give the same numbers. CLIP's
weights are random, which changes neither time nor equality.

    python benchmarks/bench_inctrl.py [--model ViT-B-16-plus-240] [--queries 4] [--shots 2] [--steps 3]

`--queries 0` measures the training alone. As many images as the steps of an epoch draw make the first epoch
as long as in the paper, where an epoch on MVTec AD draws 4,800 of 5,354 images.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.optim import AdamW

from adcommon.models.feature_store import FeatureStore
from adcommon.types.records import Record
from inctrl.backbone import Backbone, feature_store, make_backbone, make_preprocess
from inctrl.batches import TrainBatch, training_batches
from inctrl.data import ReferenceDraw, balanced_indices
from inctrl.detector import FewShotModel
from inctrl.model import InCTRL, trainable
from inctrl.network.clip import model_config, tokeniser
from inctrl.network.features import Features, as_features
from inctrl.network.prompts import sentences
from inctrl.network.residual import text_score
from inctrl.optimiser import update
from inctrl.recipes import MVTEC, Recipe
from inctrl.references import References, load_images
from inctrl.settings import TrainSettings

SIDE = 900
CATEGORY = "candle"
EPOCHS = MVTEC.epochs


def draw(folder: Path, count: int) -> list[Record]:
    """Soft shapes under a camera's noise; every other image counts as anomalous."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        shapes = Image.fromarray(rng.integers(40, 216, (12, 12, 3), dtype=np.uint8))
        soft = np.asarray(shapes.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = (soft + rng.normal(0, 2, soft.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"{number:04}.png"
        Image.fromarray(noisy).save(path)
        records.append(Record(path, CATEGORY, number % 2))
    return records


@torch.no_grad()
def encode_text(clip: open_clip.CLIP) -> Tensor:
    """T, all sentences anew."""
    groups = []
    for group in sentences(CATEGORY):
        features = F.normalize(clip.encode_text(tokeniser(clip.context_length)(group)), dim=-1)
        groups.append(F.normalize(features.mean(dim=0), dim=0))
    return torch.stack(groups)


def looped_map(query: Features, references: Features) -> Tensor:
    """M of one query, patch by patch, all reference patches normalised anew for each."""
    total = []
    for ours, theirs in zip(query.levels, references.levels, strict=True):
        rows = theirs.flatten(0, 1)
        values = [
            0.5 * (1 - (F.normalize(rows, dim=-1) @ F.normalize(patch, dim=0)).max()) for patch in ours[0]
        ]
        total.append(torch.stack(values))
    return torch.stack(total).mean(dim=0)[None]


def test_images(backbone: Backbone, recipe: Recipe, records: list[Record], shots: int) -> dict[str, float]:
    """Seconds of a test image, and the largest difference of a score."""
    preprocess, clip = make_preprocess(recipe), backbone.clip
    assert clip is not None
    torch.manual_seed(0)
    model = InCTRL(backbone.tower.embed, backbone.patches).eval()
    paths = [record.image for record in records]
    images = load_images(paths[shots:], preprocess)
    chosen = References("given", load_images(paths[:shots], preprocess), tuple(paths[:shots]))

    began = time.perf_counter()
    theirs = []
    with torch.inference_mode():
        for image in images:
            text = encode_text(clip)
            query, references = (as_features(backbone.tower(part)) for part in (image[None], chosen.images))
            told = text_score(query.tokens, text[None])
            found = looped_map(query, references)
            theirs.append(model(query.tokens, references.tokens[None], found, told).final)
    slow = (time.perf_counter() - began) / len(images)

    began = time.perf_counter()
    detector = FewShotModel(model, backbone, preprocess).bind(CATEGORY, chosen)
    prepared = time.perf_counter() - began
    began = time.perf_counter()
    ours = detector.score(images).image_scores
    fast = (time.perf_counter() - began) / len(images)
    difference = float((torch.cat(theirs) - ours).abs().max())
    return {"slow": slow, "fast": fast, "prepared": prepared, "difference": difference}


def training(
    backbone: Backbone, recipe: Recipe, records: list[Record], shots: int, steps: int
) -> dict[str, float]:
    """Seconds of an epoch: without kept features, the first with them, each later one."""
    preprocess, accelerator = make_preprocess(recipe), Accelerator(cpu=True)
    labels = [record.label for record in records]
    references = ReferenceDraw(records, shots, recipe.seed, self_reference=True)
    began = time.perf_counter()
    backbone.text([CATEGORY])
    text_once = time.perf_counter() - began

    def computed() -> Iterator[TrainBatch]:
        for step, queries in enumerate(balanced_indices(labels, recipe.batch_size, seed=recipe.seed)):
            drawn = references(step, queries)
            wanted = [*queries, *(own[shot] for shot in range(shots) for own in drawn)]
            features = as_features(
                backbone.tower(load_images([records[n].image for n in wanted], preprocess))
            )
            yield TrainBatch(
                features[: len(queries)],
                features[len(queries) :],
                torch.tensor([float(labels[n]) for n in queries]),
                backbone.text([CATEGORY] * len(queries)),
            )

    def kept(store: FeatureStore) -> Iterator[TrainBatch]:
        indices = balanced_indices(labels, recipe.batch_size, seed=recipe.seed)
        return training_batches(store, indices, references, backbone.text, torch.device("cpu"))

    def epoch(batches: Iterator[TrainBatch]) -> list[float]:
        torch.manual_seed(0)
        model = InCTRL(backbone.tower.embed, backbone.patches).train()
        optimiser = AdamW(trainable(model), lr=recipe.lr, weight_decay=recipe.weight_decay)
        losses = []
        for batch in itertools.islice(batches, steps):
            losses.append(float(update(model, batch, optimiser, accelerator, order=recipe.batch_order)))
        return losses

    began = time.perf_counter()
    theirs = epoch(computed())
    without = time.perf_counter() - began
    began = time.perf_counter()
    store = feature_store(backbone.tower, records, preprocess, TrainSettings(cache=False, feature_memory=8))
    ours = epoch(kept(store))
    first = time.perf_counter() - began
    began = time.perf_counter()
    again = epoch(kept(store))
    later = time.perf_counter() - began
    return {
        "without": without,
        "first": first,
        "later": later,
        "text": text_once,
        "difference": abs(theirs[0] - ours[0]),
        "largest": float(np.abs(np.subtract(theirs, ours)).max()),
        "repeated": float(np.abs(np.subtract(ours, again)).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default=MVTEC.backbone)
    parser.add_argument("--layers", type=int, nargs="+", default=MVTEC.layers)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--shots", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="of a training epoch")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--images", type=int, default=40, help="to train on")
    options = parser.parse_args()
    side = model_config(options.model)["vision_cfg"]["image_size"]
    recipe = replace(
        MVTEC,
        backbone=options.model,
        layers=tuple(options.layers),
        image_size=side,
        batch_size=options.batch_size,
    )
    backbone = make_backbone(recipe, "random")
    threads = torch.get_num_threads()
    print(
        f"{threads} threads, {options.model}, {options.shots} references, PNG files of {SIDE}x{SIDE} pixels"
    )
    with tempfile.TemporaryDirectory() as folder:
        records = draw(Path(folder), max(options.queries + options.shots, options.images))
        if options.queries:
            found = test_images(backbone, recipe, records[: options.queries + options.shots], options.shots)
            print(
                f"test image: reference-style {found['slow']:.2f} s, ours {found['fast']:.3f} s, ratio "
                f"{found['slow'] / found['fast']:.1f}; largest difference {found['difference']:.1e}\n"
                f"  text and references, once: {found['prepared']:.2f} s"
            )
        report(training(backbone, recipe, records[: options.images], options.shots, options.steps), options)


def report(found: dict[str, float], options: argparse.Namespace) -> None:
    """Print an epoch of training, and the paper's ten."""
    without, first, later = found["without"], found["first"], found["later"]
    whole = EPOCHS * without / (first + (EPOCHS - 1) * later)
    print(
        f"training epoch of {options.steps} steps of {options.batch_size} queries, {options.images} images:\n"
        f"  without kept features {without:.2f} s, and the sentences once {found['text']:.2f} s, which the "
        "reference encodes for every query\n"
        f"  the first, which computes the features, {first:.2f} s, ratio {without / first:.2f}\n"
        f"  each later one {later:.3f} s, ratio {without / later:.1f}\n"
        f"  {EPOCHS} epochs: ratio {whole:.1f}\n"
        f"  losses differ by {found['difference']:.1e} in the first step, {found['largest']:.1e} at most; "
        f"those of first and later epoch by {found['repeated']:.1e}"
    )


if __name__ == "__main__":
    main()
