"""What a row of results.json says, in types and ranges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from msgspec import Meta

from adcommon.io.schema import build
from adcommon.types.values import Count

Fraction = Annotated[float, Meta(ge=-1e-6, le=1 + 1e-6)]
"""Of the whole, but for rounding."""


@dataclass(frozen=True, kw_only=True)
class StoredRow:
    """Every field that any method's row has; see `results.rows.row`."""

    method: str
    dataset: str
    category: str
    protocol: str
    image_auroc: Fraction | None
    image_auroc_low: Fraction | None = None
    image_auroc_high: Fraction | None = None
    image_ap: Fraction | None = None
    image_f1max: Fraction | None = None
    pixel_auroc: Fraction | None = None
    pixel_ap: Fraction | None = None
    pixel_f1max: Fraction | None = None
    aupro: Fraction | None = None
    aupro_05: Fraction | None = None
    setting: str | None = None
    backbone: str | None = None
    weights: str | None = None
    trained_on: str | None = None
    seed: Count | None = None
    shots: Count | None = None
    references: str | int | None = None
    selection: str = "last"
    varied: str = ""
    seconds: float | None = None
    normal: Count | None = None
    anomalous: Count | None = None
    regions: Count | None = None
    image_threshold: float | None = None
    pixel_threshold: float | None = None
    map_size: str | None = None
    data: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """See `io.versions.provenance`."""
    certified: Mapping[str, tuple[Fraction, Fraction]] = field(default_factory=dict)
    extra: Mapping[str, float | None] = field(default_factory=dict)
    text: bool | None = None
    """InCTRL: it has a text tower."""
    tiles: str | None = None
    """WinCLIP: how images are cut."""
    reference_draw: str | None = None
    """WinCLIP: how references are drawn."""


def stored_rows(rows: Sequence[object], where: str) -> list[dict[str, Any]]:
    """The rows in the file `where`, each with the fields that it has there.

    Raises:
        BadValue: names the row and the field whose value has another type or range, or no place.
    """
    found = []
    for number, entry in enumerate(rows):
        values = vars(build(StoredRow, entry, f"{where}, row {number}"))
        found.append({name: values[name] for name in cast(Mapping[str, Any], entry)})
    return found
