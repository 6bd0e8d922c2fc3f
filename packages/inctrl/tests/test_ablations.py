import pytest
import torch
from accelerate import Accelerator
from torch.optim import AdamW

from adcommon.errors import BadValue
from inctrl.ablations import ABLATIONS
from inctrl.batches import TrainBatch
from inctrl.model import PARTS, build, trainable
from inctrl.optimiser import update
from inctrl.recipes import MVTEC, Recipe


def two_steps(random_features, recipe: Recipe) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of two steps on one batch, and how far the parts moved."""
    torch.manual_seed(0)
    model = build(recipe, 6, 4).train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    text = torch.randn(6, 2, 6, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0.0] * 3 + [1.0] * 3)
    batch = TrainBatch(random_features(6), random_features(12, seed=1), labels, text)
    optimiser, accelerator = AdamW(trainable(model), lr=recipe.lr), Accelerator(cpu=True)
    how = {"order": "corrected", "on_image": "image" in recipe.parts}
    losses = [float(update(model, batch, optimiser, accelerator, **how)) for _ in range(2)]
    return losses, {name: value - before[name] for name, value in model.named_parameters()}


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_part_that_is_left_out_changes_the_loss_and_learns_nothing(name: str, random_features) -> None:
    full, _ = two_steps(random_features, MVTEC)
    ours, moved = two_steps(random_features, ABLATIONS[name])
    assert all(one != pytest.approx(other, rel=1e-6) for one, other in zip(ours, full, strict=True))
    learned = bool(moved["diff_head_ref.projection1.weight"].any())
    assert learned == ("image" in ABLATIONS[name].parts)


def test_the_score_depends_on_the_parts_that_are_named_and_on_no_other() -> None:
    inputs = {
        "image": [torch.rand(3, 6), torch.rand(3, 6)],
        "patch": [torch.rand(3, 4), torch.rand(3, 4)],
        "text": [torch.rand(3), torch.rand(3)],
    }
    references = torch.rand(1, 2, 6)
    for recipe in (MVTEC, *ABLATIONS.values()):
        torch.manual_seed(0)
        model = build(recipe, 6, 4).eval()

        def score(changed: str = "", model=model) -> torch.Tensor:
            image, patch, text = (inputs[part][part == changed] for part in ("image", "patch", "text"))
            return model(image, references, patch, text).final

        for part in PARTS:
            assert torch.equal(score(), score(part)) == (part not in recipe.parts)


def test_parts_of_which_none_learns_are_refused() -> None:
    with pytest.raises(BadValue, match=r"parts are \('text',\).*expected image or patch"):
        Recipe(parts=("text",))
