"""Where things are looked for if nothing is said."""

import os
from pathlib import Path


def default_root() -> Path:
    """Where datasets are looked for: $AD_DATA, else ./data."""
    return Path(os.environ.get("AD_DATA", "data"))
