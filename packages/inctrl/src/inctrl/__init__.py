"""InCTRL (CVPR 2024, arXiv 2403.06495) and WinCLIP: few-shot anomaly detection by in-context residuals.

labelled = adcommon.folder("labelled")  # normal and anomalous images
run = inctrl.fit(inctrl.RECIPES["own"], labelled, out="runs/x")
model = adcommon.load(run.models["all"], category="bolt", references="normal-bolts")
"""

from typing import TYPE_CHECKING

from adcommon.methods import public

if TYPE_CHECKING:
    from inctrl.experiment import fit
    from inctrl.recipes import RECIPES, Recipe

__version__ = "0.1.0"
__all__ = ["RECIPES", "Recipe", "fit"]
__getattr__ = public(__name__, RECIPES="recipes", Recipe="recipes", fit="experiment")
