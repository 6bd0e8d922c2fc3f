"""The paper's ablations as runs: each replaces one of its three devices in the experiment on MVTec AD.

The paper's numbers of these rows are not here: no text of the tables could be had to check them.
"""

from dataclasses import replace

from realnet.network.structure import parse_structure
from realnet.recipes import MVTEC, RECIPES, Recipe

_CHANNELS = sum(block.channels for block in parse_structure(MVTEC.structure))

ABLATIONS: dict[str, Recipe] = {
    "random_channels": replace(MVTEC, afs="random"),
    "no_rrs": replace(MVTEC, rrs_modes=(f"unranked:{_CHANNELS}",)),
    "rrs_max": replace(MVTEC, rrs_modes=("max:512",)),
    "rrs_mean": replace(MVTEC, rrs_modes=("mean:512",)),
    "random_channels_no_rrs": replace(MVTEC, afs="random", rrs_modes=(f"unranked:{_CHANNELS}",)),
    "dtd": replace(MVTEC, anomaly_source="dtd"),
}
"""By name; `no_rrs` decodes all residual channels, `dtd` makes anomalies of textures alone."""

ALL = RECIPES | ABLATIONS
"""What `--recipe` takes."""
