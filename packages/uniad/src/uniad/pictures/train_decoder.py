"""Training of the picture decoder: features of the frozen backbone -> images; one decoder per category.

As in the reference it learns from the *test* images, good and defective: it has to be able to draw defects,
so that a picture without one shows that the reconstruction had lost it. It plays no part in any score.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from adcommon.data import DATASETS
from adcommon.data.loading import AnomalyDataset
from adcommon.data.normalise import unnormalise
from adcommon.data.order import batches_per_epoch, train_indices
from adcommon.data.preprocess import Preprocess
from adcommon.errors import Stopped, WrongCheckpoint
from adcommon.io.cache import default_cache
from adcommon.io.files import atomic_write, plain
from adcommon.models.checkpoint import load_model, load_strict, save_model
from adcommon.models.feature_store import cached_features
from adcommon.results.card import model_card
from adcommon.training.devices import distribute, set_seed
from adcommon.training.resume import restore, save
from adcommon.training.run import Run
from adcommon.training.settings import Settings
from adcommon.training.stop import StopSignal
from adcommon.types.records import Record
from uniad.backbone import AlignedFeatures
from uniad.compat.official import load_checkpoint
from uniad.data import FEATURE_BATCH
from uniad.detector import make_preprocess
from uniad.losses import image_mse
from uniad.model import initialise
from uniad.optimiser import make_optimiser
from uniad.pictures.decoder import VisDecoder
from uniad.recipes import Recipe
from uniad.validation import PAPER

logger = logging.getLogger(__name__)

METHOD = "uniad-decoder"
"""What config.json of a decoder's model folder says."""
LOG_EVERY = 25


def train_decoder(
    recipe: Recipe,
    category: str,
    records: Sequence[Record],
    run: Run,
    accelerator: Accelerator,
    settings: Settings,
    stop: StopSignal,
) -> list[dict[str, Any]]:
    """Train the decoder of one category and write its pictures, input above reconstruction.

    Args:
        records: images to learn to draw.
        run: where losses, resume state, model and pictures go.

    Returns:
        No rows: a decoder has no score.
    """
    set_seed(recipe.seed)
    preprocess = make_preprocess(recipe)
    backbone = AlignedFeatures(
        recipe.backbone,
        settings.weights,
        strides=recipe.strides,
        out_stride=recipe.out_stride,
        fixed_padding=recipe.fixed_padding,
    ).to(accelerator.device)
    decoder = VisDecoder(backbone.channels, recipe.out_stride)
    initialise(decoder, "normal")
    decoder = decoder.to(accelerator.device)
    world = accelerator.num_processes
    per_epoch = batches_per_epoch(len(records), recipe.batch_size, world=world)
    steps = recipe.iterations or recipe.epochs * per_epoch
    optimiser, schedule = make_optimiser(decoder.parameters(), recipe, per_epoch)
    optimiser = accelerator.prepare_optimizer(optimiser, device_placement=False)
    state = {"decoder": decoder, "optimiser": optimiser, "schedule": schedule}
    first = restore(run, recipe, state, accelerator) if settings.resume else 0

    wrapped = distribute(decoder, accelerator)
    dataset = AnomalyDataset(records, preprocess, default_cache("images", enabled=settings.cache))
    features = cached_features(
        backbone, dataset, FEATURE_BATCH, default_cache("features", enabled=settings.cache)
    )
    order = train_indices(
        len(records),
        recipe.batch_size,
        seed=recipe.seed,
        start=first,
        rank=accelerator.process_index,
        world=world,
    )
    losses: list[Tensor] = []
    save_every = settings.save_every or recipe.evaluate_every * per_epoch
    progress = tqdm(desc=f"decoder {category}", initial=first, total=steps, unit="step", disable=None)
    decoder.train()
    for step in range(first + 1, steps + 1):
        indices = next(order)
        loss, _ = update(
            wrapped,
            dataset.batch(indices).images.to(accelerator.device),
            features.batch(indices)[0].to(accelerator.device),
            optimiser,
            accelerator,
            clip_norm=recipe.clip_norm,
        )
        schedule.step()
        losses.append(loss)
        progress.update()
        saves = step % save_every == 0 or stop.requested
        if step % LOG_EVERY == 0 or saves or step == steps:
            values = accelerator.reduce(torch.stack(losses), reduction="mean").tolist()
            losses.clear()
            progress.set_postfix(loss=f"{values[-1]:.4f}")
            if accelerator.is_main_process:
                for behind, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
                    run.log(step - behind, {"loss": value})
                if saves:
                    save(run, step, recipe, state, accelerator)
            accelerator.wait_for_everyone()
        if stop.requested:
            raise Stopped(
                f"stopped after step {step} of {category}; run the same command with --resume to go on"
            )
    progress.close()

    if accelerator.is_main_process:
        _save(run.model, decoder, recipe, category, preprocess, settings)
        decoder.eval()
        for index, record in enumerate(records):
            with torch.inference_mode():
                drawn = decoder(features.batch([index])[0].to(accelerator.device))
            both = [preprocess.pixels(record.image, record.mask), unnormalise(drawn, preprocess)[0]]
            write_jpeg(run.maps / record.defect / f"{record.image.stem}.jpg", np.concatenate(both))
    accelerator.wait_for_everyone()
    return []


def update(
    decoder: nn.Module,
    images: Float[Tensor, "batch 3 height width"],
    features: Float[Tensor, "batch channels grid_height grid_width"],
    optimiser: Optimizer,
    accelerator: Accelerator,
    *,
    clip_norm: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """One optimiser step; returns the loss before it and the norm of the gradients before clipping."""
    with accelerator.autocast():
        drawn = decoder(features)
    loss = image_mse(images, drawn.to(images.dtype))
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(decoder.parameters(), clip_norm or float("inf"))
    optimiser.step()
    return loss.detach(), norm


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
        prefix = "reconstruction."
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in load_checkpoint(found).state.items()
            if name.startswith(prefix)
        }
        preprocess, stride = Preprocess(image_size=224), 16
    else:
        config, tensors = load_model(found, method=METHOD)
        preprocess, stride = Preprocess(**config["preprocess"]), config["recipe"]["out_stride"]
    if "layer4.0.conv1.weight" not in tensors:
        raise WrongCheckpoint(f"{found} is no picture decoder: it has no layer4")
    decoder = VisDecoder(tensors["layer4.0.conv1.weight"].shape[1], stride)
    load_strict(decoder, tensors, where=str(found))
    return decoder.eval().to(device), preprocess


def write_jpeg(path: Path, pixels: np.ndarray) -> None:
    """Write a picture as the reference does, as JPEG."""
    atomic_write(path, lambda file: Image.fromarray(pixels).save(file, format="JPEG", quality=95))


def _save(
    folder: Path,
    decoder: VisDecoder,
    recipe: Recipe,
    category: str,
    preprocess: Preprocess,
    settings: Settings,
) -> None:
    config: dict[str, Any] = {
        "method": METHOD,
        "category": category,
        "categories": [category],
        "dataset": recipe.dataset,
        "recipe": plain(recipe),
        "backbone": recipe.backbone,
        "weights": settings.weights,
        "seed": recipe.seed,
        "preprocess": plain(preprocess),
        "threshold": None,
        "metrics": [],
    }
    card = model_card(
        config,
        title="UniAD's picture decoder",
        paper=PAPER,
        data_notice=f"{DATASETS[recipe.dataset].title}: {DATASETS[recipe.dataset].licence}",
        command=f"uniad-train-decoder --category {category}",
    )
    save_model(folder, tensors=decoder.state_dict(), config=config, card=card)
