import pytest
import torch

from inctrl.winclip.windows import harmonic_map, window_patches


def test_windows_are_squares_of_patches_in_row_major_order() -> None:
    assert window_patches((3, 4), 2).tolist()[:4] == [[0, 1, 4, 5], [1, 2, 5, 6], [2, 3, 6, 7], [4, 5, 8, 9]]
    assert [len(window_patches((15, 15), side)) for side in (2, 3)] == [196, 169]


def test_the_map_is_the_harmonic_mean_of_the_windows_that_cover_a_patch() -> None:
    scores = torch.rand(1, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    windows = window_patches((3, 4), 2).tolist()
    for patch in range(12):
        own = [float(scores[0, n]) for n, window in enumerate(windows) if patch in window]
        expected = len(own) / sum(1 / value for value in own)
        assert float(harmonic_map(scores, (3, 4), 2)[0, patch]) == pytest.approx(expected)


def test_a_window_of_score_zero_pulls_its_patches_to_zero_and_no_others() -> None:
    scores = torch.full((1, 6), 0.3)
    scores[0, 0] = 0
    found = harmonic_map(scores, (3, 4), 2)[0]
    assert found[[0, 1, 4, 5]].tolist() == [0, 0, 0, 0]
    assert found[[2, 3, 6, 7, 8, 9, 10, 11]].tolist() == pytest.approx([0.3] * 8)
