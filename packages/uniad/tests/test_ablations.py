import pytest
import torch
from accelerate import Accelerator

from uniad.ablations import ABLATIONS
from uniad.optimiser import make_optimiser, seed_step, update
from uniad.recipes import MVTEC


def two_steps(make_model, tiny, **changes: object) -> list[float]:
    """The losses of two steps on one batch of features, on the paper's grid."""
    options = {"image_size": 224, "neighbourhood": (7, 7), "dropout": 0.0, **changes}
    model = make_model(**options).double().train()
    torch.manual_seed(0)
    features = torch.randn(2, 104, 14, 14, dtype=torch.float64)
    optimiser, _ = make_optimiser(model.reconstruction.parameters(), tiny, steps_per_epoch=1)
    accelerator, losses = Accelerator(cpu=True), []
    for number in (1, 2):
        seed_step(0, 0, number)
        losses.append(float(update(model.reconstruction, features, optimiser, accelerator, clip_norm=0.1)[0]))
    assert all(value.grad is not None for value in model.reconstruction.parameters())
    return losses


@pytest.fixture
def full(make_model, tiny) -> list[float]:
    return two_steps(make_model, tiny)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_the_loss(name: str, make_model, tiny, full) -> None:
    changes = {key: value for key, value in vars(ABLATIONS[name]).items() if value != getattr(MVTEC, key)}
    ours = two_steps(make_model, tiny, **changes)
    assert all(one != pytest.approx(other, rel=1e-9) for one, other in zip(ours, full, strict=True))


def test_without_masks_their_size_is_nothing(make_model) -> None:
    nothing = {"mask_encoder": False, "mask_memory": False, "mask_previous": False}
    features = torch.randn(1, 104, 4, 4)
    wide, narrow = (
        make_model(neighbourhood=(side, side), **nothing).eval().reconstruction(features) for side in (1, 3)
    )
    assert torch.equal(wide, narrow)


def test_only_layers_that_ask_have_queries(make_model) -> None:
    for queries, count in (("layers", 2), ("first", 1), ("none", 0)):
        names = make_model(queries=queries).state_dict()
        assert sum("learned_embed" in name for name in names) == count
