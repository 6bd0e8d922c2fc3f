import numpy as np
import pytest
import torch
from torch import Generator

from baselines.patchcore.coreset import coreset


@pytest.fixture
def patches() -> torch.Tensor:
    return torch.randn(200, 6, generator=Generator().manual_seed(0))


def test_each_new_patch_is_the_farthest_from_those_before(patches) -> None:
    chosen = coreset(patches, 12, Generator().manual_seed(5)).tolist()
    points = patches.double().numpy()
    table = np.linalg.norm(points[:, None] - points[None], axis=2)
    wanted = [chosen[0]]
    while len(wanted) < 12:
        wanted.append(int(table[:, wanted].min(axis=1).argmax()))
    assert chosen == wanted


def test_all_patches_are_taken_once_even_if_equal() -> None:
    chosen = coreset(torch.ones(7, 3), 7, Generator().manual_seed(0))
    assert sorted(chosen.tolist()) == list(range(7))


def test_a_projection_keeps_the_cover_about_as_tight(patches) -> None:
    wide = torch.randn(400, 256, generator=Generator().manual_seed(2)) @ torch.randn(
        256, 256, generator=Generator().manual_seed(3)
    )

    def radius(chosen: torch.Tensor) -> float:
        return float(torch.cdist(wide, wide[chosen]).amin(1).max())

    exact = radius(coreset(wide, 60, Generator().manual_seed(1)))
    projected = radius(coreset(wide, 60, Generator().manual_seed(1), projection=64))
    assert exact <= projected < 1.3 * exact


def test_the_seed_decides(patches) -> None:
    draws = [coreset(patches, 5, Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
