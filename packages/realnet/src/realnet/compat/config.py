"""The authors' realnet.yaml as values of our flags: what has a meaning is taken, what has none is named.

Paths in it are relative to the folder that the command runs in, as the authors' scripts are. A value is known
by its own name, wherever it lies in the file. No torch here.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from adcommon.errors import BadValue
from adcommon.io.schema import read_yaml
from adcommon.training.recipes import in_authors_form, say_unused
from realnet.compat.arch import NETWORK, NETWORK_READ_HERE, leaves, network_values, tag_of

Found = Sequence[tuple[tuple[str, ...], Any]]
"""Every value of the file under its path of names."""

_ALIKE = ("batch_size", "workers", "perlin_scale", "min_perlin_scale", "lr", "weight_decay")
_FIELDS = {
    **{name: name for name in _ALIKE},
    "random_seed": "seed",
    "dtd_transparency_range": "dtd_opacity",
    "sdas_transparency_range": "sdas_opacity",
    "max_epoch": "epochs",
    "val_freq_epoch": "evaluate_every",
}
"""Names whose value is that of a flag."""
_READ_HERE = (
    *("type", "name", "weight", "betas", "input_size", "pixel_mean", "pixel_std"),
    *("hflip", "vflip", "rotate", "meta_file", "image_dir", "sdas_dir", "dtd_dir", "avgpool_size"),
    *("normal", "sdas", "dtd", "frozen", "alpha", "gamma", "balance_index"),
)
"""Names that `read_config` translates or checks itself."""
_UNUSED = {
    "print_freq_step": "metrics.csv has every step",
    "color_mode": "images are always RGB",
    "root": "everything goes to --out",
    "port": "torchrun chooses the port",
    "version": "it names the authors' code",
    "key_metric": "the best model is that with the best mean of image and pixel AUROC",
}
"""Names without effect here, and why."""
_IMAGENET = {"pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225]}
_DATASETS = ("mvtec", "mpdd", "btad", "visa")


@in_authors_form
def read_config(path: Path) -> dict[str, Any] | None:
    """The values of our flags in a realnet.yaml of the authors; None for a file in our own form.

    Raises:
        BadValue: names what cannot be read or used, and mistyped names.
    """
    content = read_yaml(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("dataset"), Mapping):
        return None
    found = list(leaves(content))
    _check_names({place[-1] for place, value in found if tag_of(value) is None}, path)

    given = {place[-1]: value for place, value in found}
    values: dict[str, Any] = {"protocol": "realnet", "keep_best": True}
    for name, field in _FIELDS.items():
        if (value := given.get(name)) is not None:
            values[field] = tuple(value) if isinstance(value, list) else value
    for part in content.get("net") or ():
        learns = part.get("name") in ("recon", "rrs")
        if part.get("frozen", not learns) == learns:
            raise BadValue(f"{path}: frozen of {part.get('name')} is {learns}; expected {not learns}")
    values |= network_values(content, where=str(path))
    return values | _data(found, given, path) | _training(found, given, path) | _losses(content, path)


def _check_names(names: set[str], path: Path) -> None:
    """Refuse names that look mistyped; say of others that they have no effect."""
    known = (*_FIELDS, *_READ_HERE, *_UNUSED, *NETWORK, *NETWORK_READ_HERE)
    for name in sorted(names - set(known)):
        if close := get_close_matches(name, known, n=1, cutoff=0.9):
            raise BadValue(f"{path}: unknown key {name} (did you mean {close[0]}?)")
    unused = sorted((names & set(_UNUSED)) | (names - set(known)))
    say_unused(path, {name: _UNUSED.get(name, "it is not one of RealNet's") for name in unused})


def _data(found: Found, given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Dataset, lists, image size and sources of anomalies; `given` has the values by their own names."""
    values: dict[str, Any] = {}
    sides = given.get("input_size", [256, 256])
    if sides[0] != sides[1]:
        raise BadValue(f"{path}: input_size is {sides}; only square images are supported")
    values["image_size"] = sides[0]
    for name, expected in _IMAGENET.items():
        if given.get(name, expected) != expected:
            raise BadValue(f"{path}: {name} is {given[name]}; the backbone's weights expect {expected}")
    for name in ("hflip", "vflip", "rotate"):
        if given.get(name):
            raise BadValue(f"{path}: {name} is on; training images are never flipped or turned here")
    for place, value in found:
        if place == ("dataset", "type"):
            if value not in _DATASETS:
                raise BadValue(
                    f"{path}: dataset.type is {value}; expected one of {', '.join(_DATASETS)} (the authors' "
                    "other files belong to realnet-train-diffusion, realnet-train-classifier, realnet-sample)"
                )
            values["dataset"] = value
    lists = {
        "meta_test" if "test" in place else "meta_train": Path(value)
        for place, value in found
        if place[-1] == "meta_file" and "{}" not in str(value)  # {} stands for a category: the official split
    }
    if given.get("image_dir"):
        values["image_dir" if lists else "data_root"] = Path(given["image_dir"])
    values |= lists
    if given.get("sdas_dir"):
        values["sdas_dir"] = Path(given["sdas_dir"])
    if given.get("dtd_dir"):
        folder = Path(given["dtd_dir"])
        values["dtd_dir"] = folder.parent if folder.name == "images" else folder
    shares = {place[-1]: value for place, value in found if len(place) > 1 and place[-2] == "anomaly_types"}
    return values | _sources(shares, path)


def _sources(shares: Mapping[str, float], path: Path) -> dict[str, Any]:
    """The authors' `anomaly_types` in our fields."""
    if not shares:
        return {}
    normal = float(shares.get("normal", 0))
    anomalous = {kind: float(share) for kind, share in shares.items() if kind != "normal" and share}
    total = normal + sum(anomalous.values())
    if not anomalous or set(anomalous) - {"sdas", "dtd"} or abs(total - 1) > 1e-6:
        raise BadValue(
            f"{path}: anomaly_types is {dict(shares)}; expected shares of normal, sdas and dtd, of sum 1 and "
            "not all normal"
        )
    if len(anomalous) == 1:
        return {"anomaly_source": next(iter(anomalous)), "normal_share": normal}
    share = anomalous["sdas"] / sum(anomalous.values())
    return {"anomaly_source": "both", "normal_share": normal, "sdas_share": share}


def _training(found: Found, given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The optimiser, and the window of the image score."""
    values: dict[str, Any] = {}
    if "betas" in given:
        values["adam_beta1"], values["adam_beta2"] = given["betas"]
    if "avgpool_size" in given:
        side = given["avgpool_size"]
        values["pool"] = tuple(side) if isinstance(side, list) else (side,)
    for place, value in found:
        if place[-1] == "type" and "optimizer" in place and value != "Adam":
            raise BadValue(f"{path}: the optimiser is {value}; expected Adam")
    return values


def _losses(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The loss of the map and that of the features."""
    values: dict[str, Any] = {}
    for criterion in content.get("criterion") or ():
        options = criterion.get("kwargs") or {}
        kind = str(criterion.get("type", criterion.get("name", "")))
        weight = float(options.get("weight", 1.0))
        if "Feature" in kind:
            values["feature_weight"] = weight
        elif "Segment" in kind:
            values["segmentation_weight"] = weight
            values["segmentation_loss"] = "focal" if "Focal" in kind else "cross_entropy"
            alpha = options.get("alpha")
            if alpha is not None and options.get("balance_index", 0) == 1:
                alpha = 1 - alpha  # theirs is of the class balance_index, ours of the normal one
            values["focal_alpha"] = alpha
            values["focal_gamma"] = float(options.get("gamma", 2.0))
        else:
            raise BadValue(
                f"{path}: the loss is {kind}; expected one of the segmentation and of the features"
            )
    return values
