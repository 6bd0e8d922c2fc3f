"""The authors' diffusion.yaml, classifier.yaml and sample.yaml as values of our flags; no torch here.

A key is known by its own name, wherever it stands, and whether below something of the test. Paths
are relative to the folder the command runs in, as in the authors' scripts.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from adcommon.errors import BadValue
from realnet.diffusion.recipes import CLASSIFIERS, UNETS, ClassifierRecipe, DiffusionRecipe

logger = logging.getLogger(__name__)

_NETWORK = {
    "width": "width",
    "depth": "depth",
    "channel_mult": "channel_mult",
    "attention_resolutions": "attention_at",
    "dropout": "dropout",
    "num_head_channels": "head_width",
}
_TRAINING = {
    **_NETWORK,
    "random_seed": "seed",
    "workers": "workers",
    "hflip": "hflip",
    "vflip": "vflip",
    "rotate": "rotate",
    "max_epoch": "epochs",
    "clip_max_norm": "clip_norm",
    "accumulate": "accumulate",
    "ema_decay": "ema_decay",
    "val_freq_epoch": "evaluate_every",
    "save_freq_epoch": "evaluate_every",
    "lr": "lr",
    "weight_decay": "weight_decay",
    "T": "timesteps",
    "beta_scheduler": "noise_schedule",
    "rescale_timesteps": "rescale_times",
}
"""Keys whose value is that of a flag."""
_SAMPLING = {
    "random_seed": "seed",
    "batch_size": "batch_size",
    "classifier_scale": "classifier_scale",
    "sample_number": "sample_number",
    "section_counts": "respacing",
}
_PATHS = {"meta_file": "meta_train", "image_dir": "image_dir", "pertrain_path": "weights", "root": "out"}
_FIXED: dict[str, Any] = {
    "learn_sigma": True,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "pool": "attention",
    "channels": 3,
    "color_mode": "RGB",
}
"""Keys that have to have this value."""
_READ_HERE = (
    *("input_size", "batch_size", "val_batch_number", "betas", "section_counts", "class_number"),
    *("H", "W", "type", "name", "criterion", "T", "beta_scheduler", "rescale_timesteps"),
)
_UNUSED = {
    "version": "it names the authors' code",
    "port": "torchrun chooses the port",
    "class_number": "the categories are counted",
    "num_heads": "num_head_channels decides",
    "num_heads_upsample": "num_head_channels decides",
    "use_fp16": "it converts no weights in the authors' code either; use --precision bf16",
    "pixel_mean": "values become [-1, 1], in the authors' code too",
    "pixel_std": "values become [-1, 1], in the authors' code too",
    "print_freq_step": "metrics.csv has every step",
    "type": "it names a class of the authors' code",
    "name": "it names a part of the authors' code",
    "weight": "there is one loss",
}
"""Keys without effect here, and why."""


def read_diffusion(path: Path) -> dict[str, Any] | None:
    """The flags of `realnet-train-diffusion` in the authors' diffusion.yaml; None for a file in our form.

    Raises:
        BadValue: names every key that is unknown, or whose value cannot be used.
    """
    return _read(path, lambda given: _training(given, path, DiffusionRecipe()))


def read_classifier(path: Path) -> dict[str, Any] | None:
    """The flags of `realnet-train-classifier` in classifier.yaml, as `read_diffusion`."""

    def translate(given: Mapping[str, Any]) -> dict[str, Any]:
        values = _training(given, path, ClassifierRecipe())
        if (heads := values.pop("head_width", 64)) != 64:
            raise BadValue(f"{path}: the classifier's heads have {heads} channels; expected 64")
        return values

    return _read(path, translate)


def read_sample(path: Path) -> dict[str, Any] | None:
    """The flags of `realnet-sample` in sample.yaml, as `read_diffusion`."""
    return _read(path, lambda given: _sampling(given, path))


def _read(path: Path, translate: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadValue(f"cannot read {path} as YAML: {error}") from error
    if not isinstance(content, dict) or not any(isinstance(value, dict) for value in content.values()):
        return None
    given = dict(_flat(content))
    known = {*_TRAINING, *_SAMPLING, *_PATHS, *_FIXED, *_READ_HERE, *_UNUSED}
    if unknown := [key for key in given if _leaf(key) not in known and not _is_checkpoint(given[key])]:
        raise BadValue(f"{path}: " + "; ".join(_not_known(key, known) for key in unknown))
    for key, value in given.items():
        leaf = _leaf(key)
        if leaf in _FIXED and value != _FIXED[leaf]:
            raise BadValue(f"{path}: {key} is {value}; expected {_FIXED[leaf]}")
        if leaf in _UNUSED:
            logger.info("config key %s has no effect: %s", key, _UNUSED[leaf])
    return translate(given)


def _training(
    given: Mapping[str, Any], path: Path, recipe: DiffusionRecipe | ClassifierRecipe
) -> dict[str, Any]:
    """The values of a training; what concerns the validation stands below something of the test."""
    values: dict[str, Any] = {}
    processes = []
    for key, value in given.items():
        leaf, is_test = _leaf(key), "test" in key.lower()
        if leaf in ("T", "beta_scheduler", "rescale_timesteps") and is_test:
            processes.append((_TRAINING[leaf], value))
        elif leaf == "section_counts":
            values["validation_respacing" if is_test else "respacing"] = value
        elif is_test or value is None:
            continue  # the validation is on the training images, in the authors' files too
        elif leaf in _TRAINING:
            values[_TRAINING[leaf]] = value
        elif leaf in _PATHS:
            values[_PATHS[leaf]] = Path(value)
    for field, value in processes:
        if values.get(field, getattr(recipe, field)) != value:
            raise BadValue(f"{path}: {field} is {value} in the test's process; expected the training's")
    steps = values.get("timesteps", recipe.timesteps)
    if (kept := values.pop("respacing", None)) not in (None, f"ddim{steps}"):
        raise BadValue(f"{path}: the training keeps {kept} of {steps} steps; expected all: ddim{steps}")
    leaves = {_leaf(key): value for key, value in given.items()}
    if "betas" in leaves:
        values["adam_beta1"], values["adam_beta2"] = leaves["betas"]
    if "input_size" in leaves:
        values["image_size"] = _side(leaves["input_size"], path)
    if "batch_size" in leaves:
        # Theirs is of one process, ours of all.
        processes_here = int(os.environ.get("WORLD_SIZE", "1"))
        values |= {"batch_size": leaves["batch_size"] * processes_here, "chunk_size": leaves["batch_size"]}
    if "val_batch_number" in leaves:
        # Faithful: the authors' loop ends after the batch of this number, counted from 0.
        values["validation_batches"] = leaves["val_batch_number"] + 1
    return values


def _sampling(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in given.items():
        leaf = key.rpartition(".")[2]
        if leaf in _SAMPLING:
            values[_SAMPLING[leaf]] = value
        elif leaf in ("root", "image_dir", "meta_file"):
            values[_PATHS[leaf]] = Path(value)
        elif _is_checkpoint(value):
            values["classifier" if "classifier" in f"{key} {value}" else "diffusion"] = Path(value)
    size = _side([given.get(_find(given, side), 256) for side in ("H", "W")], path)
    return values | {"network": _shape(given, size, path)}


def _shape(given: Mapping[str, Any], size: int, path: Path) -> str:
    """Name of the networks that a sample.yaml describes; both of them have to be of one kind."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        section, _, leaf = key.rpartition(".")
        field = _NETWORK.get(leaf.removeprefix("classifier_"))
        if field is not None:
            sections.setdefault(section, {})[field] = value
    described = [values for values in sections.values() if "channel_mult" in values]
    for name in UNETS:
        presets = (DiffusionRecipe(**UNETS[name]), ClassifierRecipe(**CLASSIFIERS[name]))
        fits = [any(_agrees(preset, values) for preset in presets) for values in described]
        if all(fits) and presets[0].image_size == size:
            return name
    raise BadValue(f"{path} describes networks of {size} pixels that are none of {', '.join(UNETS)}")


def _agrees(preset: DiffusionRecipe | ClassifierRecipe, values: Mapping[str, Any]) -> bool:
    own = {"head_width": preset.head_channels}
    return all(
        _comparable(own.get(field, getattr(preset, field, None))) == _comparable(value)
        for field, value in values.items()
    )


def _comparable(value: Any) -> Any:
    return tuple(sorted(value)) if isinstance(value, list | tuple) else value


def _side(sides: Any, path: Path) -> int:
    height, width = sides
    if height != width:
        raise BadValue(f"{path}: the images are {height}x{width}; only square images are supported")
    return int(height)


def _find(given: Mapping[str, Any], leaf: str) -> str:
    return next((key for key in given if key.rpartition(".")[2] == leaf), leaf)


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings, and of mappings in lists, under its dotted key."""
    for name, value in content.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
            for number, entry in enumerate(value):
                yield from _flat(entry, f"{key}.{number}.")
        else:
            yield key, value


def _leaf(key: str) -> str:
    """The name of a value, without what the authors put before the names of both networks."""
    leaf = key.rpartition(".")[2]
    return leaf if leaf == "classifier_scale" else leaf.removeprefix("classifier_")


def _is_checkpoint(value: Any) -> bool:
    return isinstance(value, str) and value.endswith((".pt", ".pth", ".pth.tar"))


def _not_known(key: str, known: set[str]) -> str:
    close = get_close_matches(_leaf(key), sorted(known), n=1)
    return f"unknown key {key}" + (f" (did you mean {close[0]}?)" if close else "")
