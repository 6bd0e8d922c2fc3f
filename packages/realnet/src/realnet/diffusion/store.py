"""The two networks: built from a recipe, started, saved as model folders, and loaded again."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.io.files import plain
from adcommon.models.checkpoint import load_model, load_strict, save_trained
from adcommon.models.config import ModelConfig
from adcommon.models.outline import build_to_fit
from adcommon.results.card import Paper
from adcommon.types.facts import Facts
from realnet.diffusion.base_recipe import TrainingRecipe
from realnet.diffusion.compat.official import classes_in, fill, find_weights, read_state
from realnet.diffusion.data import make_preprocess
from realnet.diffusion.network.blocks import Shape
from realnet.diffusion.network.classifier import Classifier
from realnet.diffusion.network.unet import UNet
from realnet.diffusion.recipes import ClassifierRecipe, DiffusionRecipe
from realnet.published import PAPER

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(ModelConfig[DiffusionRecipe]):
    """What config.json of a diffusion model says."""

    recipe: DiffusionRecipe
    training: Mapping[str, Any]
    """Where the training stood."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(ModelConfig[ClassifierRecipe]):
    """What config.json of a classifier says."""

    recipe: ClassifierRecipe
    training: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Learnt:
    """A network, and what it has learnt."""

    network: UNet | Classifier
    recipe: TrainingRecipe
    categories: tuple[str, ...]
    """In the order of their class numbers."""


def build(recipe: TrainingRecipe, classes: int) -> UNet | Classifier:
    """The network of a recipe, with random weights."""
    shape = Shape(
        width=recipe.width,
        depth=recipe.depth,
        channel_mult=recipe.channel_mult,
        attention_at=recipe.attention_at,
        head_width=recipe.head_channels,
        dropout=recipe.dropout,
    )
    network: UNet | Classifier
    if isinstance(recipe, DiffusionRecipe):
        network = UNet(shape, classes=classes)
    else:
        network = Classifier(shape, classes=classes, image_size=recipe.image_size)
    network.checkpoint_activations(recipe.checkpoint_activations)
    return network


def origin(recipe: TrainingRecipe, weights: str) -> Path | None:
    """The checkpoint or model folder that a training starts from; None: it starts from scratch.

    Args:
        weights: "pretrained" (OpenAI's file, where the recipe names one), "random", or a file.

    Raises:
        WeightsNotFound: no such file.
    """
    if recipe.init_from is not None:
        return recipe.init_from
    if weights == "random" or (weights == "pretrained" and recipe.pretrained is None):
        return None  # OpenAI has no network of every size
    return find_weights(weights, recipe.pretrained or "")


def start(recipe: TrainingRecipe, classes: int, path: Path | None) -> UNet | Classifier:
    """The network that a training starts from, whose `origin` is given.

    Raises:
        WrongCheckpoint: the weights do not fit.
    """
    network = build(recipe, classes)
    if path is None:
        logger.info("random weights: training from scratch")
    else:
        state = read_state(path) if path.is_file() else load_model(path, _config_of(recipe), recipe.method)[1]
        fill(network, state, where=str(path), new_head=True)  # the classes may be others
    return network


def save(
    folder: Path,
    network: nn.Module,
    recipe: TrainingRecipe,
    categories: Sequence[str],
    weights: str,
    state: Mapping[str, Any],
) -> None:
    """Write a model folder, which is replaced as a whole.

    Args:
        network: of a diffusion model the average.
        state: step, epoch and what was measured.
    """
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(categories))
    save_trained(
        folder,
        network.state_dict(),
        Paper(
            f"RealNet's {recipe.kind} model",
            PAPER.citation,
            f"    uv run realnet-sample --{recipe.kind} THIS_FOLDER\n\nClasses: {classes}.",
        ),
        Facts(
            method=recipe.method,
            dataset=recipe.dataset,
            setting="multi-class",
            backbone="guided-diffusion",
            weights=weights,
            seed=recipe.seed,
        ),
        recipe=recipe,
        preprocess=make_preprocess(recipe.image_size, upright=recipe.upright),
        categories=categories,
        own={"training": plain(state)},
    )


def load(path: Path, base: TrainingRecipe, names: Sequence[str] = ()) -> Learnt:
    """A network from a run, a model folder, or a checkpoint of the authors.

    Args:
        base: tells the kind of network, and the shape of a checkpoint's, which does not describe itself.
        names: categories, in order, that a checkpoint has learnt, which does not name them.

    Raises:
        WrongCheckpoint: there is none, or it does not fit.
        BadValue: the checkpoint has another number of classes.
    """
    if path.is_file():
        state = read_state(path)
        classes = classes_in(
            state, UNet if isinstance(base, DiffusionRecipe) else Classifier, where=str(path)
        )
        if len(names) != classes:
            raise BadValue(
                f"{path} has {classes} classes, there are {len(names)} categories ({', '.join(names)}); name "
                "the dataset it was trained on by --dataset or --data"
            )
        network = build_to_fit(
            lambda: build(base, classes),
            lambda network: fill(network, state, where=str(path), new_head=False),
            state,
            str(path),
        )
        return Learnt(network.eval(), base, tuple(names))
    places = [path, path / "model", path / base.kind / "model"]
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise WrongCheckpoint(
            f"no {base.kind} model in {path}; looked for a file, and for config.json in "
            f"{', '.join(map(str, places))}.\n  Train it with: realnet-train-{base.kind}"
        )
    config, tensors = load_model(folder, _config_of(base), base.method)
    network = build_to_fit(
        lambda: build(config.recipe, len(config.categories)),
        lambda network: load_strict(network, tensors, where=str(folder)),
        tensors,
        str(folder),
    )
    return Learnt(network.eval(), config.recipe, config.categories)


def _config_of(base: TrainingRecipe) -> type[DiffusionConfig] | type[ClassifierConfig]:
    return DiffusionConfig if isinstance(base, DiffusionRecipe) else ClassifierConfig
