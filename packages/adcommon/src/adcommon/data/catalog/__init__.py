"""DATASETS: one table of facts per dataset; a further dataset is a further entry."""

from adcommon.data.catalog.facts import Dataset
from adcommon.data.catalog.general import GENERAL
from adcommon.data.catalog.industrial import INDUSTRIAL
from adcommon.data.catalog.medical import MEDICAL

__all__ = ["DATASETS", "Dataset"]

DATASETS: dict[str, Dataset] = {entry.name: entry for entry in (*INDUSTRIAL, *MEDICAL, *GENERAL)}
"""Every dataset by name."""
