from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor

from adcommon.errors import WrongCheckpoint
from recontrast.compat.official import load_official, load_reverse_distillation, to_official
from recontrast.model import ReContrast, distance_maps

Make = Callable[..., ReContrast]


def test_writing_and_reading_returns_every_entry_in_order(make_model: Make) -> None:
    model, other = make_model(), make_model()
    with torch.no_grad():
        model.decoder.out1[0].bias.add_(1)
    official = to_official(model)
    parts = list(dict.fromkeys(name.partition(".")[0] for name in official))
    assert parts == ["encoder", "encoder_freeze", "bottleneck", "decoder"]
    load_official(other, official)
    assert all(torch.equal(value, official[name]) for name, value in other.state_dict().items())


def test_the_encoder_has_torchvisions_names(make_model: Make) -> None:
    theirs = torchvision.models.resnet18().state_dict()
    names = {name for name in theirs if not name.startswith(("layer4.", "fc."))}
    ours = {
        name.removeprefix("encoder.")
        for name in to_official(make_model("resnet18"))
        if name.startswith("encoder.")
    }
    assert ours == names


def test_a_partial_norm_model_has_the_same_entries(make_model: Make) -> None:
    plain, partial = to_official(make_model()), to_official(make_model(partial_norm=5e-4))
    assert list(plain) == list(partial)


def test_the_unused_entries_may_be_absent(make_model: Make) -> None:
    model = make_model()
    official = to_official(model)
    for name in [name for name in official if ".conv4." in name or ".bn4." in name]:
        del official[name]
    load_official(model, official)


def test_every_wrong_entry_is_named(make_model: Make) -> None:
    model = make_model("resnet18")
    official = to_official(model)
    del official["decoder.out1.0.weight"]
    official["encoder.fc.weight"] = torch.zeros(1)
    official["encoder.conv1.weight"] = torch.zeros(64, 3, 3, 3)
    with pytest.raises(WrongCheckpoint) as caught:
        load_official(model, official)
    for text in (
        "3 entries",
        "missing: decoder.out1.0.weight",
        "unknown: encoder.fc.weight",
        "shape of encoder.conv1.weight: (64, 3, 3, 3), the model has (64, 3, 7, 7)",
    ):
        assert text in str(caught.value)


def reverse_distillation(model: ReContrast) -> dict[str, dict[str, Tensor]]:
    """A checkpoint in reverse distillation's layout, with one of its stray entries."""
    official = to_official(model)
    parts = {"bn": "bottleneck.", "decoder": "decoder."}
    checkpoint = {
        key: {name.removeprefix(part): value for name, value in official.items() if name.startswith(part)}
        for key, part in parts.items()
    }
    for name in [name for name in checkpoint["decoder"] if name.startswith("out")]:
        del checkpoint["decoder"][name]
    checkpoint["bn"]["memory0.embedding"] = torch.zeros(3)
    return checkpoint


def test_reverse_distillation_compares_the_decoders_own_features(make_model: Make, images: Tensor) -> None:
    source, model = make_model("resnet18"), make_model("resnet18")
    load_reverse_distillation(model, reverse_distillation(source))
    features = model.eval().frozen_features(images)
    with torch.no_grad():
        coarse = model.decoder.layer1(model.bottleneck(features))
        middle = model.decoder.layer2(coarse)
        rebuilt = (model.decoder.layer3(middle), middle, coarse)
        outputs = model(images)
    for got, expected in zip(outputs.from_trained, rebuilt, strict=True):
        torch.testing.assert_close(got, expected)
    maps = distance_maps(outputs)
    for frozen_target, trained_target in zip(maps[:3], maps[3:], strict=True):
        torch.testing.assert_close(frozen_target, trained_target)


def test_another_checkpoint_is_not_reverse_distillation(make_model: Make) -> None:
    with pytest.raises(WrongCheckpoint, match=r"holds \['state_dict'\], expected 'bn' and 'decoder'"):
        load_reverse_distillation(make_model(), {"state_dict": {}})
