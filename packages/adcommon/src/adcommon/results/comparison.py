"""The page of a comparison: the table, and the same images side by side under every model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from adcommon.io.files import atomic_write
from adcommon.io.text import printable
from adcommon.results.gallery import PAGE, link
from adcommon.results.page import as_data, filled
from adcommon.results.tables import Table, html


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model says of an image on the page."""

    rank: float
    """Share of the test images that score lower, in [0, 1]."""
    decision: str
    """ "normal", "anomalous" or "unknown"."""
    picture: str | None
    """Path relative to the page, with `/`; None: the method has no maps."""


@dataclass(frozen=True, slots=True)
class Compared:
    """An image on the page, and what each model says of it."""

    name: str
    anomalous: bool
    picture: str
    """Of the image itself."""
    truth: str | None
    """Of the outline of its labelled defects, to be laid over each picture; None: there is none."""
    by: Mapping[str, Seen]
    disagreement: float
    """How differently the models rank it, in [0, 1]."""


def write_comparison(
    folder: Path, images: Sequence[Compared], table: Table, *, title: str, recommendation: str, of: int
) -> Path:
    """Write `folder`/index.html and return its path.

    Args:
        images: in any order; the page begins with those on which the models disagree.
        of: test images there are, of which these may be some.
    """
    shown = []
    for image in images:
        by = {method: asdict(seen) | {"picture": link(seen.picture)} for method, seen in image.by.items()}
        links = {"picture": link(image.picture), "truth": link(image.truth)}
        shown.append(asdict(image) | {"name": printable(image.name), **links, "by": by})
    values = {
        "title": escape(printable(title)),
        "recommendation": escape(recommendation),
        "table": html(table),
        "part": "" if len(images) == of else f" {len(images)} of the {of} test images are shown.",
        "data": as_data(shown),
    }
    atomic_write(folder / PAGE, filled("comparison", values))
    return folder / PAGE
