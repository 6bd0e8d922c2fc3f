"""The two networks: built from a recipe, started, saved as model folders, and loaded again."""

import logging
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from adcommon.data import DATASETS
from adcommon.data.readable import read_all
from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.io.files import plain
from adcommon.models.checkpoint import load_model, load_strict, save_model
from adcommon.types.records import Record
from realnet.diffusion.compat.official import classes_in, fill, find_weights, read_state, save_checkpoint
from realnet.diffusion.data import make_dataset, make_preprocess
from realnet.diffusion.network.classifier import Classifier
from realnet.diffusion.network.unet import UNet
from realnet.diffusion.recipes import CLASSIFIERS, UNETS, ClassifierRecipe, DiffusionRecipe, Size
from realnet.diffusion.schedule import make_schedule
from realnet.diffusion.settings import TrainSettings

logger = logging.getLogger(__name__)

DIFFUSION, CLASSIFIER = "realnet-diffusion", "realnet-classifier"
"""What config.json of a model folder calls the two networks."""
JOBS = {DIFFUSION: "diffusion", CLASSIFIER: "classifier"}
"""Name of the folder below a run's."""
PAPER = (
    "Zhang, Xu, Zhou: RealNet: A Feature Selection Network with Realistic Synthetic Anomaly for Anomaly "
    "Detection, CVPR 2024, https://arxiv.org/abs/2403.05897"
)


@dataclass(frozen=True)
class Trained:
    """A network with what is known of it."""

    network: UNet | Classifier
    recipe: DiffusionRecipe | ClassifierRecipe
    categories: tuple[str, ...]
    """In the order of their class numbers."""


def build(recipe: DiffusionRecipe | ClassifierRecipe, classes: int) -> UNet | Classifier:
    """The network of a recipe, with random weights."""
    network: UNet | Classifier
    if isinstance(recipe, DiffusionRecipe):
        network = UNet(
            classes=classes,
            width=recipe.width,
            depth=recipe.depth,
            channel_mult=recipe.channel_mult,
            attention_at=recipe.attention_at,
            head_width=recipe.head_width,
            dropout=recipe.dropout,
        )
    else:
        network = Classifier(
            image_size=recipe.image_size,
            classes=classes,
            width=recipe.width,
            depth=recipe.depth,
            channel_mult=recipe.channel_mult,
            attention_at=recipe.attention_at,
            dropout=recipe.dropout,
        )
    network.checkpoint_activations(recipe.checkpoint_activations)
    return network


def weights_file(recipe: DiffusionRecipe | ClassifierRecipe, weights: str) -> Path | None:
    """The checkpoint a training starts from; None: it starts from scratch.

    Args:
        recipe: where it may start.
        weights: "pretrained" (OpenAI's file, where the recipe names one), "random", or a file.

    Raises:
        WeightsNotFound: no such file.
    """
    if recipe.init_from is not None or weights == "random":
        return None
    if weights == "pretrained" and recipe.pretrained is None:
        return None  # OpenAI has no network of this size
    return find_weights(weights, recipe.pretrained or "")


def start(recipe: DiffusionRecipe | ClassifierRecipe, classes: int, weights: str) -> UNet | Classifier:
    """The network a training starts from; arguments and errors as for `weights_file`.

    Raises:
        WrongCheckpoint: the weights do not fit.
    """
    network = build(recipe, classes)
    if recipe.init_from is not None:
        _fill_from(network, recipe.init_from)
    elif (path := weights_file(recipe, weights)) is not None:
        fill(network, read_state(path), where=str(path), new_head=True)
    else:
        logger.info("random weights: training from scratch")
    return network


def check_images(
    recipe: DiffusionRecipe | ClassifierRecipe,
    images: Mapping[str, Sequence[Record]],
    settings: TrainSettings,
) -> None:
    """Fail now and not after hours on a schedule that is unknown or an image that cannot be decoded."""
    make_schedule(recipe.timesteps, recipe.noise_schedule)
    read_all([make_dataset(recipe, images, cache=settings.cache)])


def save(
    folder: Path,
    network: nn.Module,
    recipe: DiffusionRecipe | ClassifierRecipe,
    categories: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write a model folder.

    Args:
        folder: replaced as a whole.
        network: what is stored; of a diffusion model the average.
        recipe: how it was trained.
        categories: in the order of their class numbers.
        facts: step, epoch and what was measured.
    """
    method = DIFFUSION if isinstance(recipe, DiffusionRecipe) else CLASSIFIER
    config: dict[str, Any] = {
        "method": method,
        "category": "+".join(categories),
        "categories": list(categories),
        "dataset": recipe.dataset,
        "recipe": plain(recipe),
        "backbone": "guided-diffusion",
        "seed": recipe.seed,
        "preprocess": plain(make_preprocess(recipe.image_size, upright=recipe.upright)),
        "threshold": None,
        "metrics": [],
        "training": plain(facts),
    }
    save_model(folder, tensors=network.state_dict(), config=config, card=_card(config))


def save_official(
    path: Path,
    network: nn.Module,
    recipe: DiffusionRecipe | ClassifierRecipe,
    facts: Mapping[str, float],
    *,
    epoch: int,
) -> None:
    """Write a network in the layout of the authors' checkpoints; `facts` are its "loss" or "acc"."""
    name = "unet" if isinstance(recipe, DiffusionRecipe) else "classifier"
    save_checkpoint(path, network, epoch=epoch, arch=[{"name": name, "kwargs": plain(recipe)}], facts=facts)


def keep_latest(folder: Path, count: int) -> None:
    """Delete all but the latest `count` of the interim models in a folder, which are named by their epoch."""
    kept = sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))
    for path in kept[: max(len(kept) - count, 0)]:
        shutil.rmtree(path)


def load_diffusion(path: Path, names: Sequence[str] = (), *, network: Size = "full256") -> Trained:
    """A diffusion model from a run, a model folder, or a checkpoint of the authors.

    Args:
        path: where it is.
        names: categories, in order, that a checkpoint has learnt, which does not name them.
        network: shape of a checkpoint's network, which does not describe itself.

    Raises:
        WrongCheckpoint: there is none, or it does not fit.
        BadValue: the checkpoint has another number of classes.
    """
    return _load(path, names, DIFFUSION, replace(DiffusionRecipe(), **UNETS[network]), UNet)


def load_classifier(path: Path, names: Sequence[str] = (), *, network: Size = "full256") -> Trained:
    """A classifier, as `load_diffusion`."""
    return _load(path, names, CLASSIFIER, replace(ClassifierRecipe(), **CLASSIFIERS[network]), Classifier)


def _load(
    path: Path,
    names: Sequence[str],
    method: str,
    base: DiffusionRecipe | ClassifierRecipe,
    kind: type[UNet] | type[Classifier],
) -> Trained:
    if path.is_file():
        state = read_state(path)
        classes = classes_in(state, kind, where=str(path))
        if len(names) != classes:
            raise BadValue(
                f"{path} has {classes} classes, there are {len(names)} categories ({', '.join(names)}); name "
                "the dataset it was trained on by --dataset or --data"
            )
        network = build(base, classes)
        fill(network, state, where=str(path), new_head=False)
        return Trained(network.eval(), base, tuple(names))
    places = [path, path / "model", path / JOBS[method] / "model"]
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise WrongCheckpoint(
            f"no {JOBS[method]} model in {path}; looked for a file, and for config.json in "
            f"{', '.join(map(str, places))}.\n  Train it with: realnet-train-{JOBS[method]}"
        )
    config, tensors = load_model(folder, method=method)
    recipe = type(base).from_json(config["recipe"])
    network = build(recipe, len(config["categories"]))
    load_strict(network, tensors, where=str(folder))
    return Trained(network.eval(), recipe, tuple(config["categories"]))


def _fill_from(network: UNet | Classifier, path: Path) -> None:
    """Fill a network from a model folder or a checkpoint; the classes may be others."""
    if path.is_file():
        state = read_state(path)
    else:
        state = load_model(path, DIFFUSION if isinstance(network, UNet) else CLASSIFIER)[1]
    fill(network, state, where=str(path), new_head=True)


def _card(config: Mapping[str, Any]) -> str:
    """README.md of a model folder."""
    entry = DATASETS[config["dataset"]]
    measured = "\n".join(f"- {name}: {value}" for name, value in config["training"].items())
    recipe = "\n".join(f"- `{name}`: {value}" for name, value in config["recipe"].items())
    numbers = ", ".join(f"{number} {name}" for number, name in enumerate(config["categories"]))
    what = JOBS[config["method"]]
    return f"""---
tags: [anomaly-detection, diffusion, realnet]
---
# RealNet's {what} model: {config["category"]}

Paper: {PAPER}

Classes: {numbers}.

## How to use it

    uv run realnet-sample --{what} THIS_FOLDER

## State

{measured}

## Training

    {shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}

{recipe}

## Licence of the training data

{entry.title}: {entry.licence}
"""
