"""Ablations as runs: each takes a part away from the experiment with a Wide-ResNet-50-2.

The paper's numbers of such rows are not here: no text of the tables could be had to check them.
"""

from dataclasses import replace

from resad.recipes import PAPER, Recipe

ABLATIONS: dict[str, Recipe] = {
    "no_residual": replace(PAPER, residual="none"),
    "no_constraint": replace(PAPER, constraint="none"),
    "no_residual_no_constraint": replace(PAPER, residual="none", constraint="none"),
    "normal_constraint": replace(PAPER, constraint="normal"),
    "no_matching": replace(PAPER, fdm_alpha=1.0),
    "no_boundaries": replace(PAPER, bgspp_lambda=0.0),
    "no_positions": replace(PAPER, flow_arch="flow_model"),
}
"""By name; `normal_constraint` is without what keeps anomalous rows as they are, `no_matching` without moving
residuals to the normal ones' distribution at test time."""
