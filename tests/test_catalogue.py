"""The table and the sections of docs/datasets.md say what the catalogue says."""

import re
from pathlib import Path

import pytest

from adcommon.data import DATASETS, Dataset

PAGE = (Path(__file__).parents[1] / "docs/datasets.md").read_text("utf-8")
ROWS = {
    name: [cell.strip() for cell in cells.split("|")]
    for name, cells in re.findall(r"^\| \[`(\w+)`\]\(#\S+\) \|(.*)\|$", PAGE, re.M)
}
"""Title, categories, masks, way to training, licence and papers of each dataset."""
SECTIONS = dict(re.findall(r"^## [^\n]*\(`(\w+)`\)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
PAPERS = ("ReContrast", "InCTRL", "RealNet", "UniAD", "ResAD")

every = pytest.mark.parametrize("entry", DATASETS.values(), ids=DATASETS.keys())


def test_the_table_has_every_dataset_in_the_order_of_the_catalogue() -> None:
    assert list(ROWS) == list(DATASETS)


@every
def test_a_row_says_what_the_entry_says(entry: Dataset) -> None:
    assert entry.name in ROWS, "no row in the table of docs/datasets.md"
    _, categories, masks, preparing, licence, papers = ROWS[entry.name]
    if categories.isdecimal():
        assert int(categories) == len(entry.categories)
    assert entry.pixel_truth if masks == "yes" else masks != "no" or not entry.pixel_truth
    if entry.preparer and not entry.embedded:
        assert f"`ad prepare {entry.name}`" in preparing
    if entry.as_published:
        assert preparing.startswith("as it is")
    assert entry.licence.startswith(licence)
    named = ", ".join(PAPERS) if papers == "all five" else papers
    assert set(filter(None, named.split(", "))) == set(entry.papers)


@every
def test_a_section_has_the_owners_page(entry: Dataset) -> None:
    if not entry.embedded and entry.layout != "folder":
        assert entry.name in SECTIONS, f"no section '## {entry.title} (`{entry.name}`)' in docs/datasets.md"
        assert entry.url in SECTIONS[entry.name]
