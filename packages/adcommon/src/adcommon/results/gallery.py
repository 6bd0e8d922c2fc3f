"""A page for looking: scored images with their pictures, to sort, to filter, and to try thresholds on.

One HTML file beside the pictures; it opens from disk, without a server or a network.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from adcommon.io.files import atomic_write
from adcommon.io.text import printable

PAGE = "index.html"
"""Name of the file, in the folder of the pictures."""


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """An image on the page."""

    name: str
    score: float
    """A finite number, higher is more anomalous."""
    anomalous: bool | None
    """None: nobody knows."""
    picture: str | None
    """Path relative to the page, with `/`; None: there is none."""
    small: str | None = None
    """Of a small picture, to be shown beside others; None: the picture itself is."""
    plain: str | None = None
    """Of the image without the map; None: there is none."""
    unfamiliar: str | None = None
    """Why the image is not of the kind that the model knows; None: it is, or nobody knows."""


def write_gallery(
    folder: Path,
    images: Sequence[ScoredImage],
    *,
    title: str,
    threshold: float | None = None,
    worth: str = "",
    colours: tuple[float, float, float] | None = None,
) -> Path:
    """Write `folder`/index.html and return its path.

    Args:
        threshold: the decision threshold, where the page's slider starts; None: there is none.
        worth: what a decision is worth, in words.
        colours: where the maps in the pictures are dark, outlined and brightest; None: each is scaled by
            itself.
    """
    shown = [
        asdict(image)
        | {
            "name": printable(image.name),
            **{key: link(getattr(image, key)) for key in ("picture", "small", "plain")},
        }
        for image in images
    ]
    data = json.dumps({"images": shown, "threshold": threshold, "colours": colours}, allow_nan=False)
    page = files("adcommon.results").joinpath("gallery.html").read_text(encoding="utf-8")
    # `<` is escaped so that no name can end the script.
    values = {
        "title": escape(printable(title)),
        "worth": escape(worth),
        "data": data.replace("<", "\\u003c"),
    }
    atomic_write(folder / PAGE, re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], page))
    return folder / PAGE


def link(path: str | None) -> str | None:
    """A path with `/` as a page's link to it."""
    return None if path is None else quote(os.fsencode(path))
