import pytest
import torch
import torch.nn.functional as F

from adcommon.models import neighbours
from adcommon.models.neighbours import nearest, nearest_distances


@pytest.mark.parametrize("held", [10, 2**20])
def test_the_nearest_row_has_the_largest_cosine_however_it_is_cut(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SIMILARITIES", held)
    generator = torch.Generator().manual_seed(0)
    rows, bank = (torch.randn(count, 5, generator=generator) for count in (24, 12))
    cosine = F.cosine_similarity(rows[:, None], bank[None], dim=2)
    index, value = nearest(F.normalize(rows, dim=1), F.normalize(bank, dim=1))
    assert torch.equal(index, cosine.argmax(dim=1))
    torch.testing.assert_close(value, cosine.max(dim=1).values)


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("held", [10, 2**20])
def test_distances_rise_and_are_exact_however_they_are_cut(
    held: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SIMILARITIES", held)
    generator = torch.Generator().manual_seed(0)
    rows, bank = (torch.randn(size, 5, generator=generator) for size in (24, 12))
    rows[0] = bank[7]
    table = (rows[:, None].double() - bank[None]).norm(dim=2).sort(dim=1)
    distances, index = nearest_distances(rows, bank, count)
    torch.testing.assert_close(distances, table.values[:, :count].float(), atol=3e-3, rtol=1e-4)
    assert torch.equal(index, table.indices[:, :count])


def test_of_a_long_bank_the_first_of_equals_is_found_as_of_a_short_one() -> None:
    rows, bank = (torch.randn(size, 3, generator=torch.Generator().manual_seed(size)) for size in (300, 1024))
    bank = bank.repeat(2, 1)
    for index in (nearest(rows, bank)[0], nearest_distances(rows, bank)[1][:, 0]):
        assert index.max() < 1024
    assert torch.equal(nearest(rows, bank)[0], (rows @ bank.T).argmax(dim=1))
