import pytest
import torch

from resad.network import sorting
from resad.network.sorting import ordered, ordered_with_places


def values(kind: str) -> torch.Tensor:
    drawn = torch.randn(3, 7, 500, generator=torch.Generator().manual_seed(0))
    cut = drawn.relu() - drawn.roll(1).relu()
    if kind == "distinct":
        return drawn
    if kind == "cut off at zero":
        return cut
    drawn[0, 1, :9] = torch.tensor([-0.0, 0.0, 1, 1, 2, -1, -1, torch.inf, -torch.inf])
    drawn[2] = cut[2]
    return drawn


@pytest.mark.parametrize("kind", ["distinct", "cut off at zero", "some equal"])
@pytest.mark.parametrize("threads", [1, 2])
def test_order_and_places_are_those_of_torch_also_among_equals(
    kind: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "LEAST", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    given = values(kind)
    rising, places = given.sort(dim=2)
    assert torch.equal(ordered(given), rising)
    found = ordered_with_places(given)
    assert torch.equal(found[0], rising)
    assert torch.equal(found[1], places)


def test_what_is_sorted_stays_as_it_was() -> None:
    given = values("some equal")
    kept = given.clone()
    ordered(given)
    ordered_with_places(given)
    assert torch.equal(given, kept)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_sorted_too(dtype: torch.dtype) -> None:
    given = values("some equal").to(dtype)
    rising, places = given.sort(dim=2)
    found = ordered_with_places(given)
    assert torch.equal(ordered(given), rising)
    assert torch.equal(found[0], rising)
    assert torch.equal(found[1], places)
