import torch

from resad.epoch import EpochLosses
from resad.losses import ConstraintLoss
from resad.optimiser import StepLosses


def step(flows: list[float]) -> StepLosses:
    values = [torch.tensor(value) for value in (2.0, 1.0, 0.5)]
    constraint = [ConstraintLoss(values[1], values[2], torch.tensor(0.25)) for _ in range(2)]
    used = [torch.arange(3), torch.arange(5)]
    return StepLosses(values[0], constraint, [torch.tensor(flow) for flow in flows], used)


def test_train_loss_counts_every_minimised_loss_once() -> None:
    losses = EpochLosses()
    rows = losses.add([step([4.0, 5.0]), step([6.0])])
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
    losses.add([step([4.0])])
    assert losses.line(3, 100, imagebind=False).startswith("Epoch[3/100]: train_loss: ")
    assert losses.line(0, 9, imagebind=True) == (
        "Epoch[0/9]: VQ loss: 2.0, OCC loss: 1.5 (n: 1.0, a: 0.5), Ort loss: 0.25, Flow loss: 4.0"
    )


def test_a_resumed_epoch_ends_in_the_same_line() -> None:
    whole, first, rest = EpochLosses(), EpochLosses(), EpochLosses()
    whole.add([step([1.0]), step([2.0])])
    first.add([step([1.0])])
    rest.load(first.state())
    rest.add([step([2.0])])
    assert rest.line(0, 1, imagebind=True) == whole.line(0, 1, imagebind=True)
