"""UniAD: one transformer that detects anomalies in all classes (NeurIPS 2022, arXiv 2206.03687).

run = uniad.fit(uniad.RECIPES["own"], adcommon.folder("photos"), out="runs/photos")
"""

from typing import TYPE_CHECKING

from adcommon.methods import public

if TYPE_CHECKING:
    from uniad.experiment import fit
    from uniad.recipes import RECIPES, Recipe

__version__ = "0.1.0"
__all__ = ["RECIPES", "Recipe", "fit"]
__getattr__ = public(__name__, RECIPES="recipes", Recipe="recipes", fit="experiment")
