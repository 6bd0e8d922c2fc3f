import pytest
import torch
from accelerate import Accelerator
from torch.optim import AdamW

from inctrl.batches import TrainBatch
from inctrl.model import InCTRL, trainable
from inctrl.optimiser import update


@pytest.mark.parametrize("relative", [False, True])
def test_updates_bring_the_loss_down_and_leave_the_unused_norm(random_features, relative) -> None:
    torch.manual_seed(0)
    model = InCTRL(6, 4, relative=relative).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    labels = torch.tensor([0.0] * 3 + [1.0] * 3)
    batch = TrainBatch(random_features(6), random_features(12, seed=1), labels, None)
    optimiser = AdamW(trainable(model), lr=1e-3, weight_decay=0.01)
    how = {"order": "corrected", "relative": relative, "logits": False}
    losses = [float(update(model, batch, optimiser, Accelerator(cpu=True), **how)) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if ".bn1." in name)
    assert not torch.equal(before["adapter.fc.0.weight"], after["adapter.fc.0.weight"])
