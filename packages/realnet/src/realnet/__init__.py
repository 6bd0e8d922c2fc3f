"""RealNet: feature selection with realistic synthetic anomalies (CVPR 2024, arXiv 2403.05897).

run = realnet.fit(realnet.RECIPES["own"], adcommon.folder("photos"), out="runs/photos")
"""

from typing import TYPE_CHECKING

from adcommon.methods import public

if TYPE_CHECKING:
    from realnet.experiment import fit
    from realnet.recipes import RECIPES, Recipe

__version__ = "0.1.0"
__all__ = ["RECIPES", "Recipe", "fit"]
__getattr__ = public(__name__, RECIPES="recipes", Recipe="recipes", fit="experiment")
