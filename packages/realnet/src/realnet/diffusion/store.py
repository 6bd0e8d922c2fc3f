"""The two networks: built from a recipe, started, saved as model folders, and loaded again."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.io.files import plain
from adcommon.models.checkpoint import load_model, load_strict, save_trained
from adcommon.results.card import Paper
from adcommon.training.recipes import from_json
from adcommon.types.facts import Facts
from realnet.diffusion.compat.official import classes_in, fill, find_weights, read_state, save_checkpoint
from realnet.diffusion.data import make_preprocess
from realnet.diffusion.network.blocks import Shape
from realnet.diffusion.network.classifier import Classifier
from realnet.diffusion.network.unet import UNet
from realnet.diffusion.recipes import CLASSIFIERS, UNETS, ClassifierRecipe, DiffusionRecipe, Size
from realnet.published import PAPER

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Learnt:
    """A network, and what it has learnt."""

    network: UNet | Classifier
    recipe: DiffusionRecipe | ClassifierRecipe
    categories: tuple[str, ...]
    """In the order of their class numbers."""


def build(recipe: DiffusionRecipe | ClassifierRecipe, classes: int) -> UNet | Classifier:
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


def weights_file(recipe: DiffusionRecipe | ClassifierRecipe, weights: str) -> Path | None:
    """The checkpoint a training starts from; None: it starts from scratch.

    Args:
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
        path = recipe.init_from
        state = read_state(path) if path.is_file() else load_model(path, recipe.method)[1]
        fill(network, state, where=str(path), new_head=True)  # the classes may be others
    elif (file := weights_file(recipe, weights)) is not None:
        fill(network, read_state(file), where=str(file), new_head=True)
    else:
        logger.info("random weights: training from scratch")
    return network


def save(
    folder: Path,
    network: nn.Module,
    recipe: DiffusionRecipe | ClassifierRecipe,
    categories: Sequence[str],
    weights: str,
    state: Mapping[str, Any],
) -> None:
    """Write a model folder, which is replaced as a whole.

    Args:
        network: of a diffusion model the average.
        categories: in the order of their class numbers.
        weights: what the training started from.
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


def save_official(
    path: Path,
    network: nn.Module,
    recipe: DiffusionRecipe | ClassifierRecipe,
    state: Mapping[str, Any],
) -> None:
    """Write a network in the layout of the authors' checkpoints; `state` as for `save`."""
    is_unet = isinstance(recipe, DiffusionRecipe)
    measured = {"loss": state["rebuild_mse"]} if is_unet else {"acc": state["epoch_accuracy"]}
    arch = [{"name": "unet" if is_unet else "classifier", "kwargs": plain(recipe)}]
    save_checkpoint(path, network, epoch=state["epoch"], arch=arch, facts=measured)


def load_diffusion(path: Path, names: Sequence[str] = (), *, network: Size = "full256") -> Learnt:
    """A diffusion model from a run, a model folder, or a checkpoint of the authors.

    Args:
        names: categories, in order, that a checkpoint has learnt, which does not name them.
        network: shape of a checkpoint's network, which does not describe itself.

    Raises:
        WrongCheckpoint: there is none, or it does not fit.
        BadValue: the checkpoint has another number of classes.
    """
    return _load(path, names, replace(DiffusionRecipe(), **UNETS[network]), UNet)


def load_classifier(path: Path, names: Sequence[str] = (), *, network: Size = "full256") -> Learnt:
    """A classifier, as `load_diffusion`."""
    return _load(path, names, replace(ClassifierRecipe(), **CLASSIFIERS[network]), Classifier)


def _load(
    path: Path,
    names: Sequence[str],
    base: DiffusionRecipe | ClassifierRecipe,
    kind: type[UNet] | type[Classifier],
) -> Learnt:
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
        return Learnt(network.eval(), base, tuple(names))
    places = [path, path / "model", path / base.kind / "model"]
    folder = next((place for place in places if (place / "config.json").is_file()), None)
    if folder is None:
        raise WrongCheckpoint(
            f"no {base.kind} model in {path}; looked for a file, and for config.json in "
            f"{', '.join(map(str, places))}.\n  Train it with: realnet-train-{base.kind}"
        )
    config, tensors = load_model(folder, method=base.method)
    recipe = from_json(type(base), config["recipe"])
    network = build(recipe, len(config["categories"]))
    load_strict(network, tensors, where=str(folder))
    return Learnt(network.eval(), recipe, tuple(config["categories"]))
