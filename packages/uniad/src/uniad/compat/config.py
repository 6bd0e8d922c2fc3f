"""The authors' config.yaml as values of our flags: what has a meaning is taken, what has none is named.

Paths in it are relative to its folder, as the authors' scripts are run from there. No torch here.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from adcommon.errors import BadValue
from adcommon.io.schema import read_yaml
from adcommon.training.recipes import in_authors_form, say_unused
from uniad.compat.arch import network_values

_KWARGS = "trainer.optimizer.kwargs"
_FIELDS = {
    "random_seed": "seed",
    "dataset.batch_size": "batch_size",
    "dataset.workers": "workers",
    "dataset.train.hflip": "hflip",
    "dataset.train.vflip": "vflip",
    "dataset.train.rotate": "rotate",
    "dataset.train.colorjitter.brightness": "brightness",
    "dataset.train.colorjitter.contrast": "contrast",
    "dataset.train.colorjitter.saturation": "saturation",
    "dataset.train.colorjitter.hue": "hue",
    "dataset.train.colorjitter.prob": "colorjitter",
    "trainer.max_epoch": "epochs",
    "trainer.clip_max_norm": "clip_norm",
    "trainer.val_freq_epoch": "evaluate_every",
    "trainer.lr_scheduler.kwargs.step_size": "lr_step",
    "trainer.lr_scheduler.kwargs.gamma": "lr_gamma",
    f"{_KWARGS}.lr": "lr",
    f"{_KWARGS}.weight_decay": "weight_decay",
    f"{_KWARGS}.momentum": "momentum",
}
"""Keys whose value is that of a flag."""
_PATHS = {
    "dataset.image_reader.kwargs.image_dir": "image_dir",
    "dataset.train.meta_file": "meta_train",
    "dataset.test.meta_file": "meta_test",
    "dataset.train.root_dir": "data_root",
}
_READ_HERE = (
    "dataset.type",
    "dataset.input_size",
    "dataset.normals",
    "dataset.train.colorjitter",
    "dataset.pixel_mean",
    "dataset.pixel_std",
    "criterion",
    "evaluator.metrics",
    "evaluator.key_metric",
    "frozen_layers",
    "net",
    "trainer.optimizer.type",
    "trainer.lr_scheduler.type",
    f"{_KWARGS}.betas",
)
"""Keys that `read_config` translates or checks itself."""
_UNUSED = {
    "version": "it names the authors' code",
    "port": "torchrun chooses the port",
    "reproduce": "runs here are always reproducible",
    "dataset.image_reader.type": "Pillow reads the images; the pixels are the same",
    "dataset.image_reader.kwargs.color_mode": "images are always RGB",
    "dataset.train.rebalance": "it has no effect in the authors' code either",
    "dataset.test.root_dir": "the training images' folder holds both",
    "trainer.print_freq_step": "metrics.csv has every step",
    "trainer.tb_freq_step": "it has no effect in the authors' code either",
    "saver.auto_resume": "use --resume",
    "saver.always_save": "use --save-every",
    "saver.load_path": "no training starts from it unasked; use --init-from",
    "saver.resume_model": "use --resume, or --init-from",
    "saver.save_dir": "everything goes to --out",
    "saver.log_dir": "everything goes to --out",
    "evaluator.save_dir": "nothing is written in between",
    "evaluator.vis_compound": "use uniad-evaluate --maps --vis compound",
    "evaluator.vis_single": "use uniad-evaluate --maps --vis single",
    "evaluator.eval_dir": "nothing is written in between",
}
"""Keys without effect here, and why."""
_LISTS = (
    "criterion",
    "net",
    "evaluator.metrics",
    "frozen_layers",
    "evaluator.vis_compound",
    "evaluator.vis_single",
)
"""Keys whose value is looked at as a whole."""


@in_authors_form
def read_config(path: Path) -> dict[str, Any] | None:
    """The values of our flags in a config.yaml of the authors; None for a file in our own form.

    Raises:
        BadValue: names every key that is unknown, or whose value cannot be used.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or "net" not in content:
        return None
    given = dict(_flat(content))
    known = (*_FIELDS, *_PATHS, *_READ_HERE, *_UNUSED)
    if unknown := [key for key in given if key not in known]:
        raise BadValue(f"{path}: " + "; ".join(_not_known(key, known) for key in unknown))
    say_unused(path, {key: _UNUSED[key] for key in given if key in _UNUSED})
    values: dict[str, Any] = {
        field: given[key] for key, field in _FIELDS.items() if given.get(key) is not None
    }
    values |= {
        field: (path.parent / given[key]).resolve()
        for key, field in _PATHS.items()
        if given.get(key) is not None
    }
    values |= _dataset(given, path)
    values |= _training(given, path)
    values |= _evaluation(given)
    values |= network_values(content["net"], where=str(path))
    if any((part.get("kwargs") or {}).get("pretrained") is False for part in content["net"]):
        values["weights"] = "random"
    return values


def _dataset(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    sides = given.get("dataset.input_size", [224, 224])
    if sides[0] != sides[1]:
        raise BadValue(f"{path}: input_size is {sides}; only square images are supported")
    values: dict[str, Any] = {"image_size": sides[0], "upright": False, "calibration_share": 0.0}
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    for name, expected in imagenet.items():
        if (found := given.get(f"dataset.pixel_{name}", expected)) != expected:
            raise BadValue(f"{path}: pixel_{name} is {found}; the backbone's weights expect {expected}")
    match given.get("dataset.type", "custom"):
        case "custom":
            return values | {"dataset": "folder", "multiclass": True}
        case "cifar10":
            normals = given.get("dataset.normals", [])
            return values | {
                "dataset": "cifar10",
                "multiclass": False,
                "interpolation": "lanczos",
                "normals": ["".join(map(str, normals))] if normals else [],
            }
        case other:
            raise BadValue(f"{path}: dataset.type is {other}; expected custom or cifar10")


def _training(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {"keep_best": True}
    kind = given.get("trainer.optimizer.type", "AdamW")
    if kind not in ("AdamW", "Adam", "SGD"):
        raise BadValue(f"{path}: the optimiser is {kind}; expected AdamW, Adam or SGD")
    values["optimiser"] = kind.lower()
    if (schedule := given.get("trainer.lr_scheduler.type", "StepLR")) != "StepLR":
        raise BadValue(f"{path}: the schedule is {schedule}; expected StepLR")
    if f"{_KWARGS}.betas" in given:
        values["adam_beta1"], values["adam_beta2"] = given[f"{_KWARGS}.betas"]
    for criterion in given.get("criterion", []):
        if criterion.get("type") != "FeatureMSELoss":
            raise BadValue(
                f"{path}: the loss is {criterion.get('type')}; expected FeatureMSELoss (a picture decoder is "
                "trained by uniad-train-decoder, which takes its values as flags)"
            )
        values["loss_weight"] = float((criterion.get("kwargs") or {}).get("weight", 1.0))
    if (frozen := given.get("frozen_layers", ["backbone"])) != ["backbone"]:
        raise BadValue(f"{path}: frozen_layers is {frozen}; expected [backbone]")
    return values


def _evaluation(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"protocol": "uniad"}
    key = str(given.get("evaluator.key_metric", "mean_pixel_auc"))
    columns = {"max", "mean", "std"}
    named = key.removeprefix("mean_").removesuffix("_auc")
    values["image_score"] = named if named in columns else "max"
    for metric in (given.get("evaluator.metrics") or {}).get("auc", []):
        window = (metric.get("kwargs") or {}).get("avgpool_size")
        if window:
            values["pool"] = tuple(window) if isinstance(window, list) else (window,)
    return values


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings under its dotted key."""
    for name, value in content.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and key not in _LISTS:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _not_known(key: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(key, known, n=1)
    return f"unknown key {key}" + (f" (did you mean {close[0]}?)" if close else "")
