"""Datasets: what exists, where it lies, and which images it has. No torch here; `loading` has the loaders."""

from adcommon.datasets.access import find_categories, load_records, load_splits
from adcommon.datasets.catalog import DATASETS, Dataset

__all__ = ["DATASETS", "Dataset", "find_categories", "load_records", "load_splits"]
