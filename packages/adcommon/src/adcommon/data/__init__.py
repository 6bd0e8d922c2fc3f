"""Datasets: what exists, where it lies, and which images it has. No torch here; `loading` has the loaders."""

from adcommon.data.catalog import DATASETS, Dataset
from adcommon.data.sources.access import find_categories, load_records, load_splits

__all__ = ["DATASETS", "Dataset", "find_categories", "load_records", "load_splits"]
