from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adcommon.errors import UserError, WrongCheckpoint
from adcommon.testing.alterations import sample
from resad.compat.official import load_official, load_official_file, to_official, write_official
from resad.recipes import PAPER, Recipe


def test_a_file_round_trips_and_tells_its_sizes(make_model, recipe: Recipe, tmp_path: Path) -> None:
    model = make_model()
    write_official(tmp_path / "x_latest.pth", model)
    base = replace(PAPER, backbone="resnet18", feature_levels=2)
    again, found = load_official_file(tmp_path / "x_latest.pth", base, [6, 8])
    assert (found.coupling_layers, found.pos_embed_dim, found.num_embeddings) == (2, 8, 5)
    assert found.conditional
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_no_value_of_a_file_is_believed(make_model, recipe: Recipe, tmp_path: Path) -> None:
    path, channels = tmp_path / "x.pth", [6, 8]
    write_official(path, make_model())
    for _, changed in sample(torch.load(path), 60):
        torch.save(changed, path)
        with suppress(UserError):
            load_official_file(path, recipe, channels)


def test_flows_without_positions_are_recognised(make_model, tmp_path: Path) -> None:
    write_official(tmp_path / "x.pth", make_model(flow_arch="flow_model"))
    _, found = load_official_file(tmp_path / "x.pth", replace(PAPER, feature_levels=2), [6, 8])
    assert not found.conditional


def test_the_extensions_training_state_is_passed_over(make_model) -> None:
    state = to_official(make_model()) | {"epoch": 3, "optimizer_vq": {}, "scheduler1": {}}
    load_official(make_model(seed=1), state, "x.pth")


def test_every_missing_and_unknown_entry_is_named(make_model) -> None:
    state = to_official(make_model())
    del state["vq_ops"]["vq2.embedding.weight"]
    state["constraintor"]["l1_proj.extra"] = torch.zeros(1)
    state["estimators"][1]["module_list.0.global_scale"] = torch.zeros(1, 3)
    with pytest.raises(WrongCheckpoint, match=r"x\.pth does not fit") as error:
        load_official(make_model(), state, "x.pth")
    for text in (
        "missing: vq_ops.vq2",
        "unexpected: constraintor.l1_proj.extra",
        "shape: estimators.1.module_list.0.global_scale is (1, 3), expected (1, 8)",
    ):
        assert text in str(error.value)
    with pytest.raises(WrongCheckpoint, match="unknown parts: surprise"):
        load_official(make_model(), state | {"surprise": {}}, "x.pth")


def test_another_file_is_not_taken_for_one_and_code_does_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(WrongCheckpoint, match="expected vq_ops, constraintor, estimators"):
        load_official_file(tmp_path / "other.pth", PAPER, [6, 8, 9])
    torch.save({"vq_ops": print}, tmp_path / "evil.pth")
    with pytest.raises(WrongCheckpoint, match=r"print"):
        load_official_file(tmp_path / "evil.pth", PAPER, [6, 8, 9])
