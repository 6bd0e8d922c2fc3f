"""The paper's ablations as runs: each takes one of its parts away from the experiment on MVTec AD.

The paper's numbers of these rows are not here: no text of the tables could be had to check them.
"""

from dataclasses import replace

from recontrast.recipes import MVTEC, RECIPES, Recipe

ABLATIONS: dict[str, Recipe] = {
    "region_cosine": replace(MVTEC, loss="region"),
    "no_mining": replace(MVTEC, mining_factor=1.0),
    "region_cosine_no_mining": replace(MVTEC, loss="region", mining_factor=1.0),
    "no_stop_gradient": replace(MVTEC, stop_gradient=False),
    "frozen_encoder": replace(MVTEC, encoders="frozen"),
    "trained_encoder": replace(MVTEC, encoders="trained"),
    "trained_encoder_no_stop_gradient": replace(MVTEC, encoders="trained", stop_gradient=False),
}
"""By name; the last three have one encoder, whose features are rebuilt from themselves."""

ALL = RECIPES | ABLATIONS
"""What `--recipe` takes."""
