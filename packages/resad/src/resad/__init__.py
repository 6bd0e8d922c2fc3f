"""ResAD: class-generalisable anomaly detection from residual features (NeurIPS 2024, arXiv 2410.20047).

run = resad.fit(resad.RECIPES["own"], ad.dataset("mvtec"), targets=ad.folder("photos"), out="runs/x")
"""

from typing import TYPE_CHECKING

from adcommon.methods import public

if TYPE_CHECKING:
    from resad.experiment import fit
    from resad.recipes import RECIPES, Recipe

__version__ = "0.1.0"
__all__ = ["RECIPES", "Recipe", "fit"]
__getattr__ = public(__name__, RECIPES="recipes", Recipe="recipes", fit="experiment")
