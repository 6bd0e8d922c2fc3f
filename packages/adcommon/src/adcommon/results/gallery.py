"""A page for looking: scored images with their pictures, to sort, to filter, and to try thresholds on.

One HTML file beside the pictures; it opens from disk, without a server or a network.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from adcommon.io.files import atomic_write
from adcommon.io.text import printable
from adcommon.results.page import as_data, filled

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
    truth: str | None = None
    """Of the outline of labelled defects, to be laid over the picture; None: there is none."""
    unfamiliar: str | None = None
    """Why the image is not of the kind that the model knows; None: it is, or nobody knows."""


def write_gallery(
    folder: Path,
    images: Sequence[ScoredImage],
    *,
    title: str,
    threshold: float | None = None,
    whose: str = "the model's",
    worth: str = "",
    colours: tuple[float, float | None, float] | None = None,
) -> Path:
    """Write `folder`/index.html and return its path.

    Args:
        threshold: the decision threshold, where the page's slider starts; None: there is none.
        whose: it is, in words.
        worth: what a decision is worth, in words.
        colours: where the maps in the pictures are dark, outlined (None: nowhere) and brightest; None: each
            is scaled by itself.
    """
    shown = []
    for image in images:
        links = {key: link(getattr(image, key)) for key in ("picture", "small", "plain", "truth")}
        about = asdict(image) | {"name": printable(image.name), **links}
        shown.append({key: value for key, value in about.items() if value is not None})
    data = {"images": shown, "threshold": threshold, "whose": whose, "colours": colours}
    values = {"title": escape(printable(title)), "worth": escape(worth), "data": as_data(data)}
    atomic_write(folder / PAGE, filled("gallery", values))
    return folder / PAGE


def link(path: str | None) -> str | None:
    """A path with `/` as a page's link to it."""
    return None if path is None else quote(os.fsencode(path))
