from pathlib import Path

import numpy as np
import pytest
import torch

from adcommon.data import load_splits
from adcommon.errors import BadValue, DatasetNotFound, WrongCheckpoint
from resad.multishot.alignment import align, distance, histograms, nearest_images, read_choice, word_map


def test_words_are_counted_per_cell_and_left_over_pixels_dropped() -> None:
    words = torch.zeros(7, 6, dtype=torch.int64)
    words[:2, :2] = 1
    words[6] = 2
    bags = histograms(words, clusters=3, grid=3)
    assert bags.shape == (9, 3)
    assert bags[0].tolist() == [0, 1, 0]
    assert bags[:, 2].sum() == 0


def test_a_word_is_the_centre_of_the_largest_cosine() -> None:
    features = torch.randn(4, 3, 5)
    centres = torch.randn(6, 4)
    cosine = torch.nn.functional.cosine_similarity(features.flatten(1).T[:, None], centres[None], dim=2)
    assert torch.equal(word_map(features, centres).flatten(), cosine.argmax(dim=1))


def test_the_same_image_is_at_distance_zero_and_foreign_words_are_infinitely_far() -> None:
    first, second = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[0.5, 0.5], [0.0, 1.0]])
    assert distance(first, first, ignored=0) == 0
    assert np.isinf(distance(first, second, ignored=0))
    assert distance(first, second, ignored=1) == 0
    assert distance(first, np.stack([first, second]), ignored=0).shape == (2,)
    third = np.array([[0.9, 0.1], [0.9, 0.1]])
    near = [np.tile(bag, (4, 1)) for bag in (third, first)]
    assert nearest_images([np.tile(third, (4, 1))], near[::-1], 2).tolist() == [[1, 0]]


def test_choices_are_written_in_the_authors_layout_and_read_back(trees: Path) -> None:
    splits = load_splits("visa", trees, ("candle",))
    folder = align(
        "visa", splits, trees / "references", count=4, backbone="resnet18", weights="random",
        image_size=64, batch_size=4, device=torch.device("cpu"),
    )  # fmt: skip
    assert folder == trees / "references/indices4/visa"
    assert np.load(trees / "references/centers/visa/candle_centers.npy").shape == (12, 64)
    choice = read_choice(folder, "candle", splits["candle"], 3)
    assert choice.shape == (6, 4)
    assert all(len(set(row)) == 4 for row in choice.tolist())
    with pytest.raises(WrongCheckpoint, match="at least 5"):
        read_choice(folder, "candle", splits["candle"], 5)
    with pytest.raises(DatasetNotFound, match="resad-align"):
        read_choice(folder, "pcb1", splits["candle"], 2)
    with pytest.raises(BadValue, match="--count is 9"):
        align(
            "visa", splits, trees / "references", count=9, backbone="resnet18", weights="random",
            image_size=64, batch_size=4, device=torch.device("cpu"),
        )  # fmt: skip
