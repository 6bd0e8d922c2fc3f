import pytest
import torch
import torch.nn.functional as F

from realnet.network.afs import AFS, Pair, best_channels, channel_scores, total_scores
from realnet.network.structure import parse_structure

BLOCKS = parse_structure(["layer1:4+layer2:3@4", "layer2:8@8"])
STRIDES = {"layer1": 4, "layer2": 8}
CHANNELS = {"layer1": 4, "layer2": 8}


def levels(seed: int, batch: int = 2) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "layer1": torch.randn(batch, 4, 16, 16, generator=draw),
        "layer2": torch.randn(batch, 8, 8, 8, generator=draw),
    }


def masks(batch: int = 2) -> torch.Tensor:
    square = torch.zeros(batch, 64, 64)
    square[:, 8:40, 20:52] = 1
    return square


@pytest.mark.parametrize("grid", [(8, 8), (16, 16)])
def test_scores_are_those_of_their_definition(grid) -> None:
    before, after = levels(0)["layer2"].double(), levels(1)["layer2"].double()
    change = (
        F.interpolate(after, grid, mode="bilinear", align_corners=True)
        - F.interpolate(before, grid, mode="bilinear", align_corners=True)
    ).square()
    low = change.amin(dim=(0, 2, 3), keepdim=True)
    high = change.amax(dim=(0, 2, 3), keepdim=True)
    label = F.interpolate(masks()[:, None], grid, mode="nearest")
    expected = ((change - low) / (high - low + 1e-4) - label).square().mean(dim=(0, 2, 3))
    assert torch.allclose(channel_scores(after, before, masks(), grid), expected, atol=1e-12)


def test_the_channel_that_sees_the_anomaly_is_best() -> None:
    clean, anomalous = levels(0)["layer1"], levels(0)["layer1"]
    anomalous = anomalous + 0.1 * levels(5)["layer1"]
    anomalous[:, 2] += 3 * F.interpolate(masks()[:, None], (16, 16))[:, 0]
    scores = channel_scores(anomalous, clean, masks(), (16, 16))
    assert best_channels(scores, 1).tolist() == [2]


def test_the_lowest_scores_are_kept_in_rising_order_and_unknown_ones_last() -> None:
    scores = torch.tensor([0.5, float("nan"), 0.1, 0.4, 0.3])
    assert best_channels(scores, 3).tolist() == [2, 3, 4]
    assert best_channels(scores, 4).tolist() in ([0, 2, 3, 4], [1, 2, 3, 4])  # NaN ties with the worst


def test_layers_that_keep_all_channels_are_not_scored_and_pairs_add_up() -> None:
    afs = AFS(BLOCKS, STRIDES)
    pairs = [Pair(levels(1), levels(0), masks()), Pair(levels(3), levels(2), masks())]
    totals = total_scores(afs, CHANNELS, pairs)
    assert list(totals) == ["block1_layer2"]
    single = [total_scores(afs, CHANNELS, [pair])["block1_layer2"] for pair in pairs]
    assert torch.allclose(totals["block1_layer2"], single[0] + single[1])
    afs.keep_best(totals)
    assert afs.indexes["block1_layer1"].tolist() == [0, 1, 2, 3]
    assert afs.indexes["block2_layer2"].tolist() == list(range(8))
    assert torch.equal(afs.indexes["block1_layer2"], best_channels(totals["block1_layer2"], 3))
    assert afs.chooses(CHANNELS)
    assert not AFS(BLOCKS[1:], STRIDES).chooses(CHANNELS)


def test_blocks_join_their_layers_on_their_grid() -> None:
    afs, given = AFS(BLOCKS, STRIDES), levels(0)
    with torch.no_grad():
        afs.indexes["block1_layer2"].copy_(torch.tensor([1, 4, 7]))
    first, second = afs(given)
    up = F.interpolate(given["layer2"][:, [1, 4, 7]], (16, 16), mode="bilinear", align_corners=True)
    assert torch.equal(first, torch.cat([given["layer1"], up], dim=1))
    assert torch.equal(second, given["layer2"])


def test_the_choice_is_part_of_a_checkpoint_and_never_learned() -> None:
    afs = AFS(BLOCKS, STRIDES)
    assert set(afs.state_dict()) == {
        "indexes.block1_layer1", "indexes.block1_layer2", "indexes.block2_layer2"
    }  # fmt: skip
    assert not any(value.requires_grad for value in afs.parameters())
    assert all(value.dtype == torch.int64 for value in afs.double().parameters())
