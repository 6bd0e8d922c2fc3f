import math

import pytest
import torch

from resad.losses import (
    ConstraintLoss,
    EpochLosses,
    FlowLoss,
    RunningBoundaries,
    StepLosses,
    constraint_loss,
    contrast,
    focal,
    normal_boundary,
    orthogonal_regulariser,
    radius,
)

NOTHING = torch.zeros(6, dtype=torch.bool)


def on_shell(size: float, count: int = 6) -> torch.Tensor:
    """Rows whose radius (sqrt(|e| + 1) - 1) is `size`."""
    rows = torch.randn(count, 4)
    return rows / rows.norm(dim=1, keepdim=True) * ((size + 1) ** 2 - 1)


def test_normal_rows_on_the_shell_lose_nothing_and_off_it_on_either_side_something() -> None:
    assert constraint_loss(on_shell(0.398), NOTHING, None).total == 0
    assert constraint_loss(on_shell(0.5), NOTHING, None).total > 0
    assert constraint_loss(on_shell(0.3), NOTHING, None).total > 0


def test_the_closest_anomalous_row_limits_the_shell() -> None:
    mask = torch.tensor([False, False, False, False, False, True])
    rows = on_shell(0.398)
    rows[5] = on_shell(0.2, 1)
    assert radius(rows.norm(dim=1))[5] == pytest.approx(0.2, abs=1e-5)
    assert constraint_loss(rows, mask, None).normal > 0


def test_anomalous_rows_outside_that_kept_their_residual_lose_nothing() -> None:
    mask = ~NOTHING
    rows = on_shell(0.7)
    assert constraint_loss(rows, mask, rows).anomalous == pytest.approx(0, abs=1e-6)
    assert constraint_loss(rows, mask, rows + 0.1).anomalous > 1e-3


def test_orthonormal_columns_need_no_regulariser() -> None:
    assert orthogonal_regulariser(torch.linalg.qr(torch.randn(8, 3)).Q) == pytest.approx(0, abs=1e-10)


def test_the_boundary_is_a_quantile_of_normal_rows_only() -> None:
    values = torch.arange(20.0)
    mask = values < 10
    assert normal_boundary(values, mask, 0.05) == 10
    assert normal_boundary(values, mask, 0.25) == 12
    assert normal_boundary(values, values < 20, 0.25).isnan()


def test_contrast_pulls_only_what_is_on_the_wrong_side() -> None:
    likelihood = torch.tensor([0.0, -2.0, -3.0, -0.5])
    mask = torch.tensor([False, False, True, True])
    pulled, pushed = contrast(likelihood, mask, -1.0, 0.1)
    assert pulled == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(1.0))))
    assert pushed == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(0.6))))


def test_focal_loss_is_that_of_the_smoothed_softmax() -> None:
    normal, anomalous = torch.randn(5), torch.randn(5)
    mask = torch.tensor([True, False, False, True, True])
    p = torch.softmax(torch.stack([normal, anomalous], dim=1), dim=1)
    target = torch.nn.functional.one_hot(mask.long(), 2).clamp(1e-5, 1 - 1e-5)
    q = (target.float().clamp(1e-5, 1 - 1e-5) * p).sum(dim=1) + 1e-5
    assert focal(normal, anomalous, mask) == pytest.approx(float(-((1 - q) ** 2 * q.log()).mean()), abs=1e-6)


@pytest.mark.parametrize("log_sigmoid", [True, False])
def test_contrast_without_anomalies_is_imagebinds_alone(log_sigmoid: bool) -> None:
    loss = FlowLoss(log_sigmoid=log_sigmoid, margin_tau=0.1, contrast_weight=1.0)
    z, log_det = torch.randn(6, 3), torch.zeros(6)
    without, with_boundary = loss(z, log_det, NOTHING, None), loss(z, log_det, NOTHING, 5.0)
    assert (with_boundary > without) == (not log_sigmoid)


def test_running_boundaries_move_a_tenth_and_apart() -> None:
    boundaries = RunningBoundaries(2)
    boundaries.update(0, -1.0)
    boundaries.update(0, math.nan)
    assert boundaries.values == [pytest.approx(-0.1), 0.0]
    boundaries.load_state_dict({"values": [1.0, 2.0]})
    assert boundaries.values == [1.0, 2.0]


def step(flows: list[float]) -> StepLosses:
    values = [torch.tensor(value) for value in (2.0, 1.0, 0.5)]
    constraint = [ConstraintLoss(values[1], values[2], torch.tensor(0.25)) for _ in range(2)]
    used = [torch.tensor(3.0), torch.tensor(5.0)]
    return StepLosses(values[0], constraint, [torch.tensor(flow) for flow in flows], used)


def test_train_loss_counts_every_minimised_loss_once() -> None:
    losses = EpochLosses()
    losses.add(step([4.0, 5.0]))
    losses.add(step([6.0]))
    rows = losses.take()
    assert losses.take() == []
    total = 2 * (1.0 + 0.5 + 0.25)
    assert losses.mean("items") == (2 + total + 4 + 5 + 2 + total + 6) / 7
    assert rows[0]["loss"] == (2 + total + 4 + 5) / 4
    assert rows[1] | {"loss": 0} == {
        "loss": 0,
        "vq": 2,
        "normal": 1,
        "anomalous": 0.5,
        "orthogonal": 0.25,
        "flow": 6,
        "codes": 4,
    }


def test_the_lines_are_the_authors() -> None:
    losses = EpochLosses()
    losses.add(step([4.0]))
    losses.take()
    assert losses.line(3, 100, imagebind=False).startswith("Epoch[3/100]: train_loss: ")
    assert losses.line(0, 9, imagebind=True) == (
        "Epoch[0/9]: VQ loss: 2.0, OCC loss: 1.5 (n: 1.0, a: 0.5), Ort loss: 0.25, Flow loss: 4.0"
    )


def test_a_resumed_epoch_ends_in_the_same_line_and_the_next_begins_anew() -> None:
    whole, first, rest = EpochLosses(), EpochLosses(), EpochLosses()
    for losses, flow in ((whole, 1.0), (first, 1.0), (whole, 2.0)):
        losses.add(step([flow]))
        losses.take()
    rest.load_state_dict(first.state_dict())
    rest.add(step([2.0]))
    rest.take()
    assert rest.line(0, 1, imagebind=True) == whole.line(0, 1, imagebind=True)
    rest.clear()
    assert math.isnan(rest.mean("items"))
