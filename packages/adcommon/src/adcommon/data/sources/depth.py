"""Depth and 3D, which are not read: said where somebody would try."""

import re
from collections.abc import Iterable
from pathlib import Path

from adcommon.data.sources.meaning import Parts
from adcommon.errors import BadValue
from adcommon.io.text import printable

_COLOUR_3D = "its colour images are: --dataset mvtec_3d"
_WHAT_IS = {
    "mvtec3d": _COLOUR_3D,
    "mvtec3dad": _COLOUR_3D,
    "eyecandies": "its colour images are, in folders good and bad: --data DIR",
    "real3d": "it has point clouds alone",
    "real3dad": "it has point clouds alone",
}
"""What of a dataset can be read, by its name in small letters and digits."""


def refuse_depth(dataset: str) -> None:
    """Refuse the name of a dataset that is known for its depth.

    Raises:
        BadValue: says what can be read instead.
    """
    if (instead := _WHAT_IS.get(re.sub(r"[\W_]", "", dataset.casefold()))) is not None:
        raise BadValue(f"{dataset}: depth and 3D are not supported; {instead}")


def refuse_coordinates(root: Path, folders: Iterable[Parts]) -> None:
    """Refuse folders of images where coordinates (`xyz`) lie beside colours (`rgb`), as in MVTec 3D-AD.

    Raises:
        BadValue: names the folder, and says what can be read.
    """
    names = set(folders)
    for folder in sorted(names):
        if folder[-1:] == ("xyz",) and (*folder[:-1], "rgb") in names:
            raise BadValue(
                f"{printable(root.joinpath(*folder))}: depth and 3D are not supported; colour images are\n"
                "  MVTec 3D-AD: --dataset mvtec_3d --data-root DIR. Your own: copy the folders rgb "
                "elsewhere, and give that as --data."
            )
