import torch

from resad.network.positions import grid, kept_grid, position_codes


def test_position_codes_tell_all_cells_apart() -> None:
    codes = position_codes(8, 5, 7)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(35)
    assert distances.min() > 0.1


def test_a_grid_is_computed_once_and_can_be_learned_with() -> None:
    with torch.inference_mode():
        codes, cells = kept_grid(8, 3, 4, torch.device("cpu"))
    assert kept_grid(8, 3, 4, torch.device("cpu"))[0] is codes
    assert not codes.is_inference()
    for kept, made in zip((codes, cells), grid(8, 3, 4, torch.device("cpu")), strict=True):
        assert torch.equal(kept, made)
