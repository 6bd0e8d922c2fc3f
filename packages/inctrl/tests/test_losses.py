import pytest
import torch

from inctrl.losses import focal, training_loss
from inctrl.model import Outputs


def test_without_focus_it_is_the_binary_cross_entropy() -> None:
    scores, labels = torch.tensor([0.2, 0.9]), torch.tensor([0.0, 1.0])
    expected = -torch.log(torch.tensor([0.8, 0.9]))
    torch.testing.assert_close(focal(scores, labels, gamma=0.0, logits=False), expected)


def test_a_sure_answer_weighs_less_than_by_cross_entropy() -> None:
    labels = torch.ones(1)
    sure, unsure = (focal(torch.tensor([p]), labels, logits=False) for p in (0.95, 0.55))
    plain = torch.log(torch.tensor(0.95)) / torch.log(torch.tensor(0.55))
    assert sure / unsure < 0.1 * plain


def test_the_second_sigmoid_keeps_the_loss_above_zero() -> None:
    perfect = Outputs(*(torch.tensor([0.0, 1.0]) for _ in range(4)), torch.zeros(2, 3))
    labels = torch.tensor([0.0, 1.0])
    assert training_loss(perfect, labels) > 0.1
    assert training_loss(perfect, labels, logits=False) == pytest.approx(0.0, abs=1e-6)
