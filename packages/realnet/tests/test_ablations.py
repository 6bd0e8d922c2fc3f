from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from realnet.ablations import ABLATIONS
from realnet.network.structure import parse_structure
from realnet.optimiser import make_optimiser, update
from realnet.recipes import MVTEC, Recipe


def two_steps(make_model, recipe: Recipe) -> list[torch.Tensor]:
    """Both losses of two steps on one batch, half of it anomalous."""
    model = make_model(rrs_modes=recipe.rrs_modes).train()
    if recipe.afs == "random":
        model.afs.keep_random(model.channels, recipe.seed)
    draw, masks = torch.Generator().manual_seed(3), torch.zeros(4, 64, 64)
    clean = torch.randn(4, 3, 64, 64, generator=draw)
    masks[:2, 10:30, 20:40] = 1
    features, wanted = model.features(clean + 2 * masks[:, None]), model.features(clean)
    optimiser, accelerator = make_optimiser(model, recipe), Accelerator(cpu=True)
    network = model.trainable()
    return [update(network, features, wanted, masks, optimiser, accelerator, recipe) for _ in range(2)]


def as_tiny(ablation: Recipe, tiny: Recipe) -> Recipe:
    """What an ablation changes, changed in a small recipe, with as many channels as that has."""
    changes = {key: value for key, value in vars(ablation).items() if value != getattr(MVTEC, key)}
    if "rrs_modes" in changes:
        most = sum(block.channels for block in parse_structure(tiny.structure))
        kept = [(mode, count if mode == "unranked" else 32) for mode, count in ablation.modes()]
        changes["rrs_modes"] = tuple(f"{mode}:{min(count, most)}" for mode, count in kept)
    return replace(tiny, **changes)


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "dtd"])
def test_an_ablation_changes_both_losses_or_that_of_the_map_alone(name: str, make_model, tiny) -> None:
    full, ours = (two_steps(make_model, recipe) for recipe in (tiny, as_tiny(ABLATIONS[name], tiny)))
    for before, after in zip(full, ours, strict=True):
        assert not torch.isclose(before[0], after[0], rtol=1e-6)
    same_features = torch.isclose(full[0][1], ours[0][1], rtol=1e-6)
    assert bool(same_features) == (ABLATIONS[name].afs == "anomalies")


def test_random_channels_depend_on_the_seed_and_leave_whole_layers_whole(make_model) -> None:
    kept = {}
    for seed in (0, 1, 0):
        model = make_model()
        model.afs.keep_random(model.channels, seed)
        kept[seed] = [index.tolist() for index in model.afs.indexes.values()]
        assert kept[seed][0] == list(range(64))  # layer1 has no more
        assert len(set(kept[seed][1])) == 64
        assert max(kept[seed][1]) > 63
    assert kept[0][1] != kept[1][1]


def test_unranked_residuals_are_all_of_them_in_their_order(make_model) -> None:
    (chosen,) = make_model(rrs_modes=("unranked:128",)).rrs.choose(torch.rand(2, 128, 4, 4))
    assert chosen.tolist() == [list(range(128))] * 2


def test_the_other_source_makes_all_anomalies() -> None:
    assert (MVTEC.shares(), ABLATIONS["dtd"].shares()) == (
        {"normal": 0.5, "sdas": 0.5},
        {"normal": 0.5, "dtd": 0.5},
    )
