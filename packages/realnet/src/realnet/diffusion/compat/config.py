"""The authors' diffusion.yaml, classifier.yaml and sample.yaml as values of our flags; no torch here.

A key is known by its own name, wherever it stands, and whether below something of the test. Paths
are relative to the folder the command runs in, as in the authors' scripts.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from adcommon.errors import BadValue
from adcommon.io.schema import read_yaml
from adcommon.training.recipes import in_authors_form, say_unused
from realnet.compat.arch import leaves
from realnet.diffusion.base_recipe import TrainingRecipe
from realnet.diffusion.recipes import CLASSIFIERS, UNETS, ClassifierRecipe, DiffusionRecipe

Place = tuple[str, ...]
"""The path of names that leads to a value."""
Given = Sequence[tuple[Place, Any]]
"""Every value of the file under its place."""

_NETWORK = {
    **{name: name for name in ("width", "depth", "channel_mult", "dropout")},
    "attention_resolutions": "attention_at",
    "num_head_channels": "head_width",
}
_ALIKE = ("workers", "hflip", "vflip", "rotate", "accumulate", "ema_decay", "lr", "weight_decay")
_TRAINING = {
    **_NETWORK,
    **{name: name for name in _ALIKE},
    "random_seed": "seed",
    "max_epoch": "epochs",
    "clip_max_norm": "clip_norm",
    "val_freq_epoch": "evaluate_every",
    "save_freq_epoch": "evaluate_every",
    "T": "timesteps",
    "beta_scheduler": "noise_schedule",
    "rescale_timesteps": "rescale_times",
}
"""Keys whose value is that of a flag."""
_SAMPLING = {
    **{name: name for name in ("batch_size", "classifier_scale", "sample_number")},
    "random_seed": "seed",
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
_READ_HERE = ("input_size", "val_batch_number", "betas", "H", "W", "criterion")
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

    def translate(given: Given) -> dict[str, Any]:
        values = _training(given, path, ClassifierRecipe())
        if (heads := values.pop("head_width", 64)) != 64:
            raise BadValue(f"{path}: the classifier's heads have {heads} channels; expected 64")
        return values

    return _read(path, translate)


def read_sample(path: Path) -> dict[str, Any] | None:
    """The flags of `realnet-sample` in sample.yaml, as `read_diffusion`."""
    return _read(path, lambda given: _sampling(given, path))


@in_authors_form
def _read(path: Path, translate: Callable[[Given], dict[str, Any]]) -> dict[str, Any] | None:
    content = read_yaml(path)
    if not isinstance(content, dict) or not any(isinstance(value, dict) for value in content.values()):
        return None
    given = list(leaves(content))
    known = {*_TRAINING, *_SAMPLING, *_PATHS, *_FIXED, *_READ_HERE, *_UNUSED}
    unknown = [place for place, value in given if _name(place) not in known and not _is_checkpoint(value)]
    if unknown:
        raise BadValue(f"{path}: " + "; ".join(_not_known(place, known) for place in unknown))
    for place, value in given:
        name, key = _name(place), ".".join(place)
        if name in _FIXED and value != _FIXED[name]:
            raise BadValue(f"{path}: {key} is {value}; expected {_FIXED[name]}")
    say_unused(
        path, {".".join(place): _UNUSED[_name(place)] for place, _ in given if _name(place) in _UNUSED}
    )
    return translate(given)


def _training(given: Given, path: Path, recipe: TrainingRecipe) -> dict[str, Any]:
    """The values of a training; what concerns the validation stands below something of the test."""
    values: dict[str, Any] = {}
    processes = []
    for place, value in given:
        name, is_test = _name(place), any("test" in part.lower() for part in place)
        if name in ("T", "beta_scheduler", "rescale_timesteps") and is_test:
            processes.append((_TRAINING[name], value))
        elif name == "section_counts":
            values["validation_respacing" if is_test else "respacing"] = value
        elif is_test or value is None:
            continue  # the validation is on the training images, in the authors' files too
        elif name in _TRAINING:
            values[_TRAINING[name]] = value
        elif name in _PATHS:
            values[_PATHS[name]] = Path(value)
    for field, value in processes:
        if values.get(field, getattr(recipe, field)) != value:
            raise BadValue(f"{path}: {field} is {value} in the test's process; expected the training's")
    steps = values.get("timesteps", recipe.timesteps)
    if (kept := values.pop("respacing", None)) not in (None, f"ddim{steps}"):
        raise BadValue(f"{path}: the training keeps {kept} of {steps} steps; expected all: ddim{steps}")
    named = {_name(place): value for place, value in given}
    if "betas" in named:
        values["adam_beta1"], values["adam_beta2"] = named["betas"]
    if "input_size" in named:
        values["image_size"] = _side(named["input_size"], path)
    if "batch_size" in named:
        # Theirs is of one process, ours of all.
        processes_here = int(os.environ.get("WORLD_SIZE", "1"))
        values |= {"batch_size": named["batch_size"] * processes_here, "chunk_size": named["batch_size"]}
    if "val_batch_number" in named:
        # Faithful: the authors' loop ends after the batch of this number, counted from 0.
        values["validation_batches"] = named["val_batch_number"] + 1
    return values


def _sampling(given: Given, path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for place, value in given:
        name = place[-1]
        if name in _SAMPLING:
            values[_SAMPLING[name]] = value
        elif name in ("root", "image_dir", "meta_file"):
            values[_PATHS[name]] = Path(value)
        elif _is_checkpoint(value):
            said = f"{'.'.join(place)} {value}"
            values["classifier" if "classifier" in said else "diffusion"] = Path(value)
    named = {place[-1]: value for place, value in given}
    size = _side([named.get(side, 256) for side in ("H", "W")], path)
    return values | {"network": _shape(given, size, path)}


def _shape(given: Given, size: int, path: Path) -> str:
    """Name of the networks that a sample.yaml describes; both of them have to be of one kind."""
    sections: dict[Place, dict[str, Any]] = {}
    for (*section, name), value in given:
        if (field := _NETWORK.get(name.removeprefix("classifier_"))) is not None:
            sections.setdefault(tuple(section), {})[field] = value
    described = [values for values in sections.values() if "channel_mult" in values]
    for name in UNETS:
        presets = (DiffusionRecipe(**UNETS[name]), ClassifierRecipe(**CLASSIFIERS[name]))
        fits = [any(_agrees(preset, values) for preset in presets) for values in described]
        if all(fits) and presets[0].image_size == size:
            return name
    raise BadValue(f"{path} describes networks of {size} pixels that are none of {', '.join(UNETS)}")


def _agrees(preset: TrainingRecipe, values: Mapping[str, Any]) -> bool:
    own = {**vars(preset), "head_width": preset.head_channels}
    return all(_comparable(own.get(field)) == _comparable(value) for field, value in values.items())


def _comparable(value: Any) -> Any:
    return tuple(sorted(value)) if isinstance(value, list | tuple) else value


def _side(sides: Any, path: Path) -> int:
    height, width = sides
    if height != width:
        raise BadValue(f"{path}: the images are {height}x{width}; only square images are supported")
    return int(height)


def _name(place: Place) -> str:
    """The name of a value, without what the authors put before the names of both networks."""
    name = place[-1]
    return name if name == "classifier_scale" else name.removeprefix("classifier_")


def _is_checkpoint(value: Any) -> bool:
    return isinstance(value, str) and value.endswith((".pt", ".pth", ".pth.tar"))


def _not_known(place: Place, known: set[str]) -> str:
    close = get_close_matches(_name(place), sorted(known), n=1)
    return f"unknown key {'.'.join(place)}" + (f" (did you mean {close[0]}?)" if close else "")
