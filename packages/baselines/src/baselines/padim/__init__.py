"""PaDiM: a Gaussian for every place of the image (ICPR workshops 2020, arXiv 2011.08785)."""

from typing import TYPE_CHECKING

from adcommon.methods import public

if TYPE_CHECKING:
    from baselines.padim.experiment import fit
    from baselines.padim.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "fit"]
__getattr__ = public(__name__, RECIPES="recipes", Recipe="recipes", fit="experiment")
