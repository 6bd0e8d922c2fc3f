import torch

from resad.network.positions import Codes, kept_codes, position_codes


def test_position_codes_tell_all_cells_apart() -> None:
    codes = position_codes(8, 5, 7)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(35)
    assert distances.min() > 0.1


def test_codes_are_computed_once_and_can_be_learned_with() -> None:
    with torch.inference_mode():
        codes = kept_codes(8, 3, 4, torch.device("cpu"))
    assert kept_codes(8, 3, 4, torch.device("cpu")) is codes
    for kept, made in zip(codes, Codes.of(8, 3, 4), strict=True):
        assert not kept.is_inference()
        assert torch.equal(kept, made)


def test_a_layer_is_computed_of_columns_and_rows_and_so_are_its_slopes() -> None:
    weight = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    bias, slope = torch.randn(6, dtype=torch.float64, requires_grad=True), torch.randn(12, 6).double()
    expected = torch.nn.functional.linear(position_codes(8, 3, 4).double(), weight, bias)
    codes = Codes.of(8, 3, 4)
    torch.testing.assert_close(codes.projected(weight, bias), expected)
    for found, slopes in zip(
        codes.slopes(slope), torch.autograd.grad(expected, (weight, bias), slope), strict=True
    ):
        torch.testing.assert_close(found, slopes)
