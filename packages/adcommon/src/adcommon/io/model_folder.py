"""The model folder as files: config.json, model.safetensors, README.md.

No torch here; `models.config` has the schema, `models.checkpoint` the tensors.
"""

from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from adcommon.errors import BadValue, WrongCheckpoint
from adcommon.io.schema import convert, read_json, shown
from adcommon.types.names import check_name

FORMAT_VERSION = 1
"""Of the model folder; a folder with a higher one was written by a later version of this package."""

NEEDED = ("method", "category", "recipe", "backbone", "preprocess", "threshold", "metrics")
"""What every method's config says."""
TENSORS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def read_config(folder: Path, method: str | None = None) -> dict[str, Any]:
    """The config of a model folder, of any method if none is named; all but method and format is unchecked.

    Raises:
        WrongCheckpoint: no model folder, one whose config.json is damaged, another method's, or a newer
            format.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise WrongCheckpoint(_not_a_model(folder))
    config = read_json(file, error=WrongCheckpoint)
    if not isinstance(config, dict):
        raise WrongCheckpoint(f"{file} is {shown(config)}; expected the object that a training wrote")
    hints = {"format_version": Annotated[int, Meta(ge=1)], "method": str}
    for name, hint in hints.items():
        if name not in config:
            raise WrongCheckpoint(f"{file}: the field {name} is missing; expected what a training wrote")
        convert(config[name], hint, f"{file}: {name}", error=WrongCheckpoint)
    if config["format_version"] > FORMAT_VERSION:
        raise WrongCheckpoint(
            f"{folder} has format version {config['format_version']}, adcommon reads up to {FORMAT_VERSION}; "
            "update it"
        )
    try:
        check_name(config["method"], "method", str(file))
    except BadValue as error:
        raise WrongCheckpoint(str(error)) from None
    if method is not None and config["method"] != method:
        raise WrongCheckpoint(
            f"{folder} is a model of {config['method']}, not of {method}; use {config['method']}-predict, "
            "or `ad predict`, which finds the method by itself"
        )
    return config


def _not_a_model(folder: Path) -> str:
    """What is at `folder` instead of a model, and where one may be meant."""
    expected = f"expected a folder with {CONFIG} and {TENSORS}, such as RUN/CATEGORY/model"
    if not folder.exists():
        return f"no model at {folder}; {expected}"
    if not folder.is_dir():
        return f"{folder} is a file; {expected}"
    below = sorted(path.parent for pattern in ("*", "*/*") for path in folder.glob(f"{pattern}/{CONFIG}"))
    hint = f". Did you mean {' or '.join(str(path) for path in below[:3])}?" if below else ""
    return f"{folder} has no {CONFIG}; {expected}{hint}"
