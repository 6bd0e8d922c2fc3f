"""ReContrast: anomaly detection via contrastive reconstruction (NeurIPS 2023, arXiv 2306.02602).

run = recontrast.fit(recontrast.RECIPES["own"], adcommon.folder("photos"), out="runs/photos")
"""

from typing import TYPE_CHECKING

from adcommon.methods import public

if TYPE_CHECKING:
    from recontrast.experiment import fit
    from recontrast.losses import LOSSES
    from recontrast.recipes import RECIPES, Recipe

__version__ = "0.1.0"
__all__ = ["LOSSES", "RECIPES", "Recipe", "fit"]
__getattr__ = public(__name__, LOSSES="losses", RECIPES="recipes", Recipe="recipes", fit="experiment")
