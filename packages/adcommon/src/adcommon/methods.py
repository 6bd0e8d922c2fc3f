"""The installed methods, found through the entry-point group `adcommon.methods`.

A method registers `<method>.detector:load_detector`, called as
`load_detector(folder, category=None, references=(), device="cpu")`; nothing here imports a method by name.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adcommon.errors import BadValue, unknown_name
from adcommon.io.model_folder import read_config

if TYPE_CHECKING:
    import torch

    from adcommon.types.prediction import Detector


FLOOR = "adcommon.floor"
"""Group of the methods that train nothing: the floor that the others must beat."""


def installed(group: str = "adcommon.methods") -> dict[str, Any]:
    """Entry points of a group by method name, sorted; nothing is imported.

    They are the standard library's, or those of its backport, which puts itself in their place.
    """
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def find(method: str, group: str = "adcommon.methods") -> Callable[..., Any]:
    """The function a method registered in a group.

    Raises:
        UnknownName: no installed package registers this method; the message lists those that do.
    """
    points = installed(group)
    if method not in points:
        raise unknown_name("method", method, points)
    registered: Callable[..., Any] = points[method].load()
    return registered


def own_evaluation(method: str) -> Callable[..., None] | None:
    """What a method does for `ad evaluate`: `evaluate_with` beside its command `<method>-evaluate`.

    A method whose models are measured as any detector is has none.
    """
    for point in entry_points(group="console_scripts", name=f"{method}-evaluate"):
        found: Callable[..., None] | None = getattr(import_module(point.module), "evaluate_with", None)
        return found
    return None


def commands(method: str) -> list[str]:
    """The console commands in a method's package, sorted."""
    package = installed()[method].module.rpartition(".")[0]
    scripts = entry_points(group="console_scripts")
    return sorted(point.name for point in scripts if point.module.startswith(f"{package}."))


def load_folder(
    folder: Path,
    *,
    method: str | None = None,
    category: str | None = None,
    references: Sequence[Path] = (),
    device: "torch.device | str" = "cpu",
    tile: int | None = None,
    overlap: int | None = None,
) -> "tuple[Detector, dict[str, Any]]":
    """The detector in a model folder, whatever its method, and the folder's config.

    Args:
        folder: what a training run left: config.json and model.safetensors.
        method: refuse models of other methods.
        category: which category is to be scored, for methods that ask.
        references: its normal reference images, for few-shot methods.
        device: where the model goes.
        tile: side of the squares that images are cut into, pixels, for few-shot methods; None: none.
        overlap: of these; None: an eighth.

    Raises:
        WrongCheckpoint: no model folder, or one of another method.
        UnknownName: the model's method is not installed.
        BadValue: tiles for a method that looks at images as it was trained.
    """
    config = read_config(folder, method)
    load = find(config["method"])
    further = {} if (tile, overlap) == (None, None) else {"tile": tile, "overlap": overlap}
    if further and config["setting"] != "few-shot":
        own = config["preprocess"].get("tile")
        trained = "whole" if own is None else f"in tiles of {own}"
        raise BadValue(
            f"{folder} was trained on images {trained}, and looks at others in the same way; train one with "
            "--tile. It is few-shot models that are told here"
        )
    return load(folder, category=category, references=references, device=device, **further), config


def public(package: str, **places: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names are imported when they are asked for.

    Args:
        places: by name, the module of the package that has it.
    """

    def find_name(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{places[name]}"), name)

    return find_name
