"""PatchCore: a memory of normal patches (CVPR 2022, arXiv 2106.08265)."""

from typing import TYPE_CHECKING

from adcommon.methods import public

if TYPE_CHECKING:
    from baselines.patchcore.experiment import fit
    from baselines.patchcore.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "fit"]
__getattr__ = public(__name__, RECIPES="recipes", Recipe="recipes", fit="experiment")
