"""Detectors without training, the floor that a trained method must beat: `padim` and `patchcore`.

from baselines import padim
run = padim.fit(padim.RECIPES["small"], adcommon.folder("photos"), out="runs/photos")
"""

__version__ = "0.1.0"
