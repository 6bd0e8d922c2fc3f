"""The model folder as files: config.json, model.safetensors, README.md.

No torch here; `models.checkpoint` has the tensors.
"""

import json
from pathlib import Path
from typing import Any

from adcommon.errors import WrongCheckpoint
from adcommon.io.files import download_gone_wrong

FORMAT_VERSION = 1
"""Of the model folder; a folder with a higher one was written by a later version of this package."""

NEEDED = ("method", "category", "recipe", "backbone", "preprocess", "threshold", "metrics")
"""What every method's config says."""
_ADDED = ("format_version", "versions")
TENSORS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def read_config(folder: Path, method: str | None = None) -> dict[str, Any]:
    """The config of a model folder; of any method if none is named.

    Raises:
        WrongCheckpoint: no model folder, one whose config.json is damaged or lacks something, another
            method's, or a newer format.
    """
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise WrongCheckpoint(_not_a_model(folder)) from None
    except (ValueError, OSError) as error:
        raise WrongCheckpoint(f"cannot read {file}: {download_gone_wrong(file) or error}") from error
    wanted = (*NEEDED, *_ADDED)
    if not isinstance(config, dict) or (missing := [name for name in wanted if name not in config]):
        lacks = "is not an object" if not isinstance(config, dict) else f"lacks {', '.join(missing)}"
        raise WrongCheckpoint(f"{file} {lacks}; expected the one that a training wrote")
    if config["format_version"] > FORMAT_VERSION:
        raise WrongCheckpoint(
            f"{folder} has format version {config['format_version']}, adcommon reads up to {FORMAT_VERSION}; "
            f"update it (the model was written with adcommon {config['versions'].get('adcommon', 'unknown')})"
        )
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
