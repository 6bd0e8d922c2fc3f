from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.optim import SGD, AdamW

from inctrl.batches import TrainBatch
from inctrl.model import Head, InCTRL, trainable
from inctrl.network.features import Features
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


def plain_norm(values: Tensor, norm: torch.nn.BatchNorm1d) -> Tensor:
    centred = values - values.mean(dim=0)
    return centred / torch.sqrt(centred.square().mean(dim=0) + norm.eps) * norm.weight + norm.bias


def plain_head(values: Tensor, head: Head) -> Tensor:
    for layer, norm in ((head.projection1, head.bn2), (head.projection2, head.bn3)):
        values = plain_norm(torch.relu(values @ layer.weight.T + layer.bias), norm)
    return torch.sigmoid(values @ head.projection3.weight[0] + head.projection3.bias)


def plain_focal(scores: Tensor, labels: Tensor) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return ((1 - torch.exp(-entropy)) ** 2 * entropy).mean()


def plain_loss(model: InCTRL, batch: TrainBatch) -> Tensor:
    """The paper's equations, query by query, in no function of ours."""
    count, maps = len(batch), []
    for query in range(count):
        levels = []
        for ours, theirs in zip(batch.query.levels, batch.references.levels, strict=True):
            patches, rows = ours[query], theirs[query::count].flatten(0, 1)
            lengths = patches.norm(dim=1)[:, None] * rows.norm(dim=1)
            levels.append((0.5 * (1 - patches @ rows.T / lengths)).amin(dim=1))
        maps.append(sum(levels) / len(levels))
    residual_map = torch.stack(maps)
    down, up = model.adapter.fc[0].weight, model.adapter.fc[2].weight
    query, *shots = (
        torch.relu(torch.relu(tokens @ down.T) @ up.T)
        for tokens in (batch.query.tokens, *batch.references.tokens.split(count))
    )
    image = plain_head(sum(shots) / len(shots) - query, model.diff_head_ref)
    holistic = plain_head(residual_map + image[:, None], model.diff_head)
    final = (holistic + residual_map.amax(dim=1)) / 2
    return plain_focal(final, batch.labels) + plain_focal(image, batch.labels)


@pytest.mark.parametrize(
    ("dtype", "optimiser", "tolerance"), [(torch.float64, AdamW, 1e-9), (torch.float32, SGD, 1e-5)]
)
def test_a_trajectory_is_that_of_the_equations(random_features, dtype, optimiser, tolerance) -> None:
    """Without AdamW in float32: its first step goes by the sign of gradients, also of those that are 0."""

    def features(count: int, seed: int) -> Features:
        drawn = random_features(count, embed=16, patches=9, widths=(7, 7), seed=seed)
        return Features(drawn.tokens.to(dtype), [level.to(dtype) for level in drawn.levels])

    torch.manual_seed(0)
    model = InCTRL(16, 9).train().to(dtype)
    other = deepcopy(model)
    own, plain = (optimiser(trainable(each), lr=1e-2) for each in (model, other))
    labels = torch.tensor([0.0] * 4 + [1.0] * 4, dtype=dtype)
    for step in range(3):
        batch = TrainBatch(features(8, 2 * step), features(16, 2 * step + 1), labels, None)
        loss = plain_loss(other, batch)
        plain.zero_grad()
        loss.backward()
        plain.step()
        got = update(model, batch, own, Accelerator(cpu=True), order="corrected")
        torch.testing.assert_close(got, loss.detach(), rtol=tolerance, atol=0)
