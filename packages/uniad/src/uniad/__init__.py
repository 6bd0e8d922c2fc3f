"""UniAD: one transformer that detects anomalies in all classes (NeurIPS 2022, arXiv 2206.03687).

run = uniad.fit(uniad.RECIPES["own"], adcommon.folder("photos"), out="runs/photos")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uniad.experiment import fit
    from uniad.recipes import RECIPES, Recipe

__version__ = "0.1.0"
__all__ = ["RECIPES", "Recipe", "fit"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for."""
    places = {"RECIPES": "recipes", "Recipe": "recipes", "fit": "experiment"}
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{places[name]}"), name)
