from pathlib import Path

import pytest
import torch

from adcommon.errors import BadValue
from resad.network.residual import (
    ReferenceRows,
    References,
    as_maps,
    as_rows,
    match,
    match_classes,
    match_distribution,
    match_nested,
    residual,
)


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def rows() -> ReferenceRows:
    return ReferenceRows.of(torch.randn(12, 5, generator=torch.Generator().manual_seed(1)))


def test_rows_and_maps_are_inverses(maps: torch.Tensor) -> None:
    rows = as_rows(maps)
    torch.testing.assert_close(rows[1], maps[0, :, 0, 1])
    assert torch.equal(as_maps(rows, maps), maps)


def test_an_image_that_is_its_own_reference_has_no_residual(maps: torch.Tensor) -> None:
    own = ReferenceRows.of(as_rows(maps))
    for kind in ("square", "subtract"):
        assert residual(maps, match(maps, own), kind).abs().max() == 0


def test_length_of_a_reference_does_not_decide_but_is_subtracted(rows: ReferenceRows) -> None:
    maps = 3 * rows.rows[4].reshape(1, 5, 1, 1)
    torch.testing.assert_close(match(maps, rows), rows.rows[4].reshape(1, 5, 1, 1))
    torch.testing.assert_close(residual(maps, match(maps, rows), "square"), (maps / 1.5).square())


def test_nested_matching_equals_matching_with_each_prefix(maps: torch.Tensor, rows: ReferenceRows) -> None:
    for count, found in zip((1, 5, 12), match_nested(maps, rows, [1, 5, 12]), strict=True):
        assert torch.equal(found, match(maps, rows.first(count)))


def test_each_image_is_matched_among_its_own_categorys_references(
    maps: torch.Tensor, rows: ReferenceRows
) -> None:
    other = ReferenceRows.of(torch.randn(7, 5, generator=torch.Generator().manual_seed(2)))
    got = match_classes(maps, ["b", "a", "b"], {"a": rows, "b": other})
    torch.testing.assert_close(got[[1]], match(maps[[1]], rows))
    torch.testing.assert_close(got[[0, 2]], match(maps[[0, 2]], other))


def test_distribution_matching_keeps_the_order_and_goes_part_of_the_way(maps: torch.Tensor) -> None:
    source = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(match_distribution(maps, source, 1.0), maps)
    full = match_distribution(maps, source, 0.0).flatten(2)
    torch.testing.assert_close(full.sort(dim=2).values, source.flatten(2).sort(dim=2).values)
    assert torch.equal(full.argsort(dim=2), maps.flatten(2).argsort(dim=2))
    half = match_distribution(maps, source, 0.5).flatten(2)
    torch.testing.assert_close(half, (maps.flatten(2) + full) / 2)


def test_fewer_shots_are_the_first_images() -> None:
    maps = [torch.randn(3, 4, 8, 8), torch.randn(3, 5, 4, 4)]
    references = References.of(maps, [Path("a"), Path("b"), Path("c")])
    assert references.images == 3
    first = references.first(2)
    assert first.names == (Path("a"), Path("b"))
    assert torch.equal(first.levels[0].rows, as_rows(maps[0][:2]))
    torch.testing.assert_close(first.levels[1].unit.norm(dim=1), torch.ones(2 * 16))
    with pytest.raises(BadValue, match="there are 3"):
        references.first(4)
