"""The paper's ablations as runs: the parts of the score, alone and in pairs, trained on MVTec AD.

The paper's numbers of these rows are not here: no text of the tables could be had to check them.
"""

from dataclasses import replace

from inctrl.recipes import MVTEC, Recipe

ABLATIONS: dict[str, Recipe] = {
    "no_text": replace(MVTEC, parts=("image", "patch")),
    "no_image": replace(MVTEC, parts=("text", "patch")),
    "no_patch": replace(MVTEC, parts=("text", "image")),
    "image_only": replace(MVTEC, parts=("image",)),
    "patch_only": replace(MVTEC, parts=("patch",)),
}
"""By name."""
