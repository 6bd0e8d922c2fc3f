"""Datasets: what exists, where it lies, and which images it has. No torch here; `loading` has the loaders.

A name is looked up when it is used: who only opens an image does without the catalogue.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adcommon.data.catalog import DATASETS, Dataset
    from adcommon.data.sources.access import find_categories, load_records, load_splits

_PLACES = {
    "DATASETS": "adcommon.data.catalog",
    "Dataset": "adcommon.data.catalog",
    "find_categories": "adcommon.data.sources.access",
    "load_records": "adcommon.data.sources.access",
    "load_splits": "adcommon.data.sources.access",
}
"""Name -> the module that has it."""

__all__ = ["DATASETS", "Dataset", "find_categories", "load_records", "load_splits"]


if not TYPE_CHECKING:  # a type checker sees the imports above, and refuses every other name

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module 'adcommon.data' has no attribute '{name}'")
        return getattr(import_module(_PLACES[name]), name)
