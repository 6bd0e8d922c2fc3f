"""Small untrained models and drawn datasets for the tests of this package."""

import json
from pathlib import Path

import pytest

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
"""CLIP's two towers at a size that needs no time; open_clip's form."""


@pytest.fixture
def tiny_clip(tmp_path: Path) -> Path:
    """A file with the sizes of a tiny CLIP."""
    path = tmp_path / "tiny-clip.json"
    path.write_text(json.dumps(TINY_CLIP))
    return path
