"""RealNet: feature selection with realistic synthetic anomalies (CVPR 2024, arXiv 2403.05897).

run = realnet.fit(realnet.RECIPES["own"], adcommon.folder("photos"), out="runs/photos")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realnet.experiment import fit
    from realnet.recipes import RECIPES, Recipe

__version__ = "0.1.0"
__all__ = ["RECIPES", "Recipe", "fit"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are asked for."""
    places = {"RECIPES": "recipes", "Recipe": "recipes", "fit": "experiment"}
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{places[name]}"), name)
