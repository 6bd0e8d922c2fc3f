import copy
import math

import pytest
import torch

from resad.network.flow import CouplingBlock, Flow, log_likelihoods, random_rotation
from resad.network.positions import Codes, position_codes


def flow(channels: int = 5, condition: int = 4) -> Flow:
    torch.manual_seed(0)
    return Flow(channels, 3, condition, 1.9, torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("condition", [0, 4])
def test_log_determinant_is_that_of_a_numerical_jacobian(condition: int) -> None:
    model = flow(condition=condition)
    codes = Codes.of(4, 2, 2) if condition else None
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
    got, log_det = block(x, Codes.of(4, 2, 3), cells)
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


@pytest.mark.parametrize("condition", [0, 4])
def test_what_is_kept_of_weights_is_that_of_the_weights_as_they_are(condition: int) -> None:
    model, codes = flow(condition=condition), Codes.of(4, 2, 2) if condition else None
    rows, cells = torch.randn(3, 5, dtype=torch.float64), torch.tensor([0, 3, 1]) if condition else None
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    seen = []
    for change in ("none", "learned", "loaded", "other codes"):
        if change == "learned":
            model(rows, codes, cells)[0].square().sum().backward()
            optimiser.step()
        elif change == "loaded":
            model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})
        elif change == "other codes" and codes is not None:
            codes = Codes(codes.rows.flip(0), codes.columns)
        plain = copy.deepcopy(model)
        with torch.inference_mode():
            found = model(rows, codes, cells)
            block = model.module_list[0]
            kept = block._known
            assert torch.equal(model(rows, codes, cells)[0], found[0])
            assert kept is not None
            assert block._known is kept
        with torch.enable_grad():
            for ours, theirs in zip(found, plain(rows, codes, cells), strict=True):
                torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)
        seen.append(found[0])
    assert not torch.allclose(seen[0], seen[1])
    assert not torch.allclose(seen[1], seen[2])


def test_a_flow_that_kept_something_can_be_traced() -> None:
    model, codes, cells = flow().float(), Codes.of(4, 2, 2), torch.tensor([0, 3, 1])
    rows = torch.randn(3, 5)
    with torch.no_grad():
        expected = model(rows, codes, cells)
        traced = torch.export.export(model, (rows, codes, cells)).module()
        torch.testing.assert_close(traced(rows, codes, cells), expected)
