import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adcommon.errors import DatasetNotFound, UserError, WrongCheckpoint
from adcommon.io.images import list_images
from adcommon.testing.alterations import sample
from resad.backbone import build_backbone, grids, make_preprocess
from resad.compat.features import feature_facts, read, write
from resad.recipes import Recipe
from resad.references import encode


@pytest.fixture
def made(trees: Path, recipe: Recipe):
    """Backbone, preprocessing and three encoded references."""
    backbone, preprocess = build_backbone(recipe, "random"), make_preprocess(recipe)
    images = list_images(trees / "visa/candle/train/good")[:3]
    return backbone, preprocess, encode(backbone, images, preprocess, batch_size=2)


def test_files_give_back_the_same_rows_and_names(made, recipe: Recipe, tmp_path: Path) -> None:
    backbone, preprocess, references = made
    facts, expected = feature_facts(recipe, preprocess), grids(backbone, preprocess)
    write(tmp_path / "f" / "candle", references, facts)
    again = read(tmp_path / "f", "candle", expected, facts)
    assert (again.images, again.names) == (3, references.names)
    assert all(torch.equal(a.rows, b.rows) for a, b in zip(again.levels, references.levels, strict=True))

    other = feature_facts(replace(recipe, backbone="resnet34"), preprocess)
    with pytest.raises(WrongCheckpoint, match="backbone resnet18, not resnet34"):
        read(tmp_path / "f", "candle", expected, other)
    with pytest.raises(DatasetNotFound, match="resad-extract"):
        read(tmp_path / "f", "pcb1", expected, facts)


def test_the_authors_files_without_facts_are_read_and_wrong_ones_refused(
    made, recipe: Recipe, tmp_path: Path
) -> None:
    backbone, preprocess, references = made
    expected, folder = grids(backbone, preprocess), tmp_path / "f" / "candle"
    write(folder, references, {})
    (folder / "references.json").unlink()
    assert read(tmp_path / "f", "candle", expected, {}).names == ()

    np.save(folder / "layer2.npy", references.levels[1].rows[:16].numpy())
    with pytest.raises(WrongCheckpoint, match=r"\[3, 1\] images"):
        read(tmp_path / "f", "candle", expected, {})
    np.save(folder / "layer2.npy", np.zeros((5, 3), np.float32))
    with pytest.raises(WrongCheckpoint, match="another backbone or image size"):
        read(tmp_path / "f", "candle", expected, {})
    np.save(folder / "layer2.npy", np.array([print]), allow_pickle=True)
    with pytest.raises(WrongCheckpoint, match="cannot read"):
        read(tmp_path / "f", "candle", expected, {})


def test_no_value_of_the_facts_is_believed(made, recipe: Recipe, tmp_path: Path) -> None:
    backbone, preprocess, references = made
    facts, expected = feature_facts(recipe, preprocess), grids(backbone, preprocess)
    write(tmp_path / "f" / "candle", references, facts)
    file = tmp_path / "f" / "candle" / "references.json"
    for _, known in sample(json.loads(file.read_text()), 100):
        file.write_text(json.dumps(known))
        with suppress(UserError):
            read(tmp_path / "f", "candle", expected, facts)
    file.write_text("[" * 100_000)
    with pytest.raises(WrongCheckpoint, match=r"cannot read .*references\.json: it is nested too deep"):
        read(tmp_path / "f", "candle", expected, facts)
