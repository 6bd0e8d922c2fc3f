import math

import pytest
import torch

from resad.network.flow import CouplingBlock, Flow, log_likelihoods, position_codes, random_rotation


def flow(channels: int = 5, condition: int = 4) -> Flow:
    torch.manual_seed(0)
    return Flow(channels, 3, condition, 1.9, torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("condition", [0, 4])
def test_log_determinant_is_that_of_a_numerical_jacobian(condition: int) -> None:
    model = flow(condition=condition)
    codes = position_codes(4, 2, 2).double() if condition else None
    x = torch.randn(3, 5, dtype=torch.float64)
    cells = torch.tensor([0, 3, 1]) if condition else None
    _, log_det = model(x, codes, cells)
    for row in range(3):

        def one(values: torch.Tensor, row: int = row) -> torch.Tensor:
            chosen = None if cells is None else cells[row : row + 1]
            return model(values[None], codes, chosen)[0][0]

        jacobian = torch.autograd.functional.jacobian(one, x[row])
        assert torch.linalg.slogdet(jacobian).logabsdet == pytest.approx(float(log_det[row]), abs=1e-6)


def test_the_position_table_equals_concatenated_codes() -> None:
    block = flow().module_list[0]
    codes, cells = position_codes(4, 2, 3).double(), torch.tensor([5, 0, 2, 2])
    x = torch.randn(4, 5, dtype=torch.float64)
    first, _, second = block.subnet
    hidden = torch.relu(first(torch.cat([x[:, :3], codes[cells]], dim=1)))
    s, t = (0.1 * second(hidden)).chunk(2, dim=1)
    s = 1.9 * torch.tanh(s)
    gamma = 0.2 * torch.log1p(torch.exp(0.5 * block.global_scale))
    z = (torch.cat([x[:, :3], x[:, 3:] * s.exp() + t], dim=1) * gamma + block.global_offset) @ block.w_perm.T
    got, log_det = block(x, codes, cells)
    torch.testing.assert_close(got, z)
    torch.testing.assert_close(log_det, s.sum(dim=1) + gamma.log().sum())


def test_a_new_block_starts_with_scale_one_and_no_offset() -> None:
    block = CouplingBlock(4, 0, 1.9, torch.Generator())
    gamma = 0.2 * math.log1p(math.exp(0.5 * float(block.global_scale[0, 0].detach())))
    assert gamma == pytest.approx(1)
    assert not block.global_offset.any()
    assert not block.w_perm.requires_grad


def test_a_rotation_is_orthogonal_of_determinant_one_and_drawn_from_its_generator() -> None:
    for size in (2, 3, 16):
        rotation = random_rotation(size, torch.Generator().manual_seed(size))
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(size), atol=1e-6, rtol=0)
        assert torch.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
    again = random_rotation(16, torch.Generator().manual_seed(16))
    assert torch.equal(rotation, again)
    assert not torch.equal(rotation, random_rotation(16, torch.Generator().manual_seed(17)))


def test_likelihoods_are_those_of_normal_densities_around_zero_and_one() -> None:
    z, log_det = torch.randn(4, 3), torch.randn(4)
    normal, anomalous = log_likelihoods(z, log_det)
    for centre, got in ((0.0, normal), (1.0, anomalous)):
        density = torch.distributions.Normal(centre, 1.0).log_prob(z).sum(dim=1)
        torch.testing.assert_close(got, (density + log_det) / 3)


def test_position_codes_tell_all_cells_apart() -> None:
    codes = position_codes(8, 5, 7)
    distances = torch.cdist(codes, codes) + 10 * torch.eye(35)
    assert distances.min() > 0.1
