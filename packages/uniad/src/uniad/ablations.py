"""The paper's ablations as runs: each takes away one of the three devices against copying, or resizes it.

The paper's numbers of these rows are not here: no text of the tables could be had to check them.
"""

from dataclasses import replace

from uniad.recipes import MVTEC, RECIPES, Recipe

_PARTS = ("mask_encoder", "mask_memory", "mask_previous")

ABLATIONS: dict[str, Recipe] = {
    "no_mask": replace(MVTEC, mask_encoder=False, mask_memory=False, mask_previous=False),
    **{
        f"{part}_only": replace(MVTEC, **{other: other == part for other in _PARTS})  # type: ignore[arg-type]
        for part in _PARTS
    },
    **{f"neighbourhood_{side}": replace(MVTEC, neighbourhood=(side, side)) for side in (1, 3, 5, 9)},
    "first_query": replace(MVTEC, queries="first"),
    "no_query": replace(MVTEC, queries="none"),
    "no_jitter": replace(MVTEC, jitter_scale=0.0),
    **{f"jitter_{scale}": replace(MVTEC, jitter_scale=float(scale)) for scale in (5, 10, 30)},
    "half_jitter": replace(MVTEC, jitter_prob=0.5),
}
"""By name; sizes and scales are those around the paper's 7 and 20."""

ALL = RECIPES | ABLATIONS
"""What `--recipe` takes."""
