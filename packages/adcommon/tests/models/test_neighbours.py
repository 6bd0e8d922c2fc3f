import pytest
import torch
import torch.nn.functional as F

from adcommon.models import neighbours
from adcommon.models.neighbours import nearest


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
