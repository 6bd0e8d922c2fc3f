"""No value of a config.json is believed: it has a type and a range, and fits what stands beside it."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from adcommon.data.kind import STATISTICS
from adcommon.errors import UserError, WrongCheckpoint
from adcommon.io.schema import build
from adcommon.models.config import ModelConfig
from adcommon.testing.alterations import alterations
from adcommon.types.values import Positive, Side


@dataclass(frozen=True, kw_only=True)
class Recipe:
    image_size: Side = 64
    layers: tuple[Positive, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Config(ModelConfig[Recipe]):
    recipe: Recipe


GOOD: dict[str, Any] = {
    "format_version": 1,
    "method": "recontrast",
    "category": "bolt+metal nut",
    "categories": ["bolt", "metal nut"],
    "dataset": "mvtec",
    "setting": "one-class",
    "backbone": "resnet18",
    "weights": "random",
    "seed": 3,
    "shots": 2,
    "recipe": {"image_size": 64, "layers": [1, 2]},
    "preprocess": {"image_size": 64, "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]},
    "threshold": {"value": 0.5, "false_alarm_rate": 0.05, "images": 20, "supported": True},
    "kinds": [{"images": 9, "ranges": {name: [1.5, 2] for name in STATISTICS}}] * 2,
    "metrics": [{"method": "recontrast", "image_auroc": 0.9}],
    "versions": {"torch": "2.0"},
}


def read(values: Any) -> Config:
    return build(Config, values, "model/config.json", error=WrongCheckpoint)


def test_a_config_becomes_types() -> None:
    config = read(json.loads(json.dumps(GOOD)))
    assert (config.threshold.decision, config.facts.shots, config.recipe.layers) == (0.5, 2, (1, 2))
    assert read({**GOOD, "threshold": None}).threshold is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format_version": 2}, "format_version is 2; expected a whole number from 1 to 1"),
        ({"format_version": float("nan")}, "format_version is nan"),
        ({"category": "../../victim"}, "the category '../../victim' cannot be the name of a folder"),
        ({"categories": ["bolt", "a/b"]}, "the category 'a/b' cannot be the name of a folder"),
        ({"recipe": {"image_size": 0}}, "recipe.image_size is 0; expected a whole number from 1 to 2048"),
        ({"recipe": {"size": 3}}, "recipe: unknown field 'size'; was it written by a newer version"),
        ({"preprocess": {"image_size": 128}}, "preprocess.image_size is 128, recipe.image_size is 64"),
        ({"preprocess": {"image_size": 64, "std": [0, 0, 0]}}, r"preprocess.std is \[0, 0, 0\]"),
        ({"preprocess": {"image_size": 64, "fit": "evil"}}, "preprocess.fit is 'evil'; expected one of"),
        ({"threshold": {**GOOD["threshold"], "value": None}}, "threshold.value is None; expected a finite"),
        ({"kinds": GOOD["kinds"][:1]}, "kinds has 1 entries; expected 2, or none"),
        ({"kinds": [{"images": 9, "ranges": {"brightness": [1, None]}}]}, "kinds"),
        ({"weights": "a\x1b[31m"}, "weights is .*; expected at most"),
        ({"versions": {"torch": 2}}, "versions is .*; expected an object"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongCheckpoint, match=rf"model/config\.json.*{message}"):
        read({**GOOD, **changed})


def test_every_alteration_is_taken_or_refused() -> None:
    refused = {}
    for name, values in alterations(GOOD):
        try:
            read(values)
        except UserError as error:
            refused[name] = str(error)
    assert len(refused) > 1000
    assert {name: message for name, message in refused.items() if "model/config.json" not in message} == {}
    assert {name: message for name, message in refused.items() if len(message) > 500} == {}
