"""Flags that every command takes: impossible values never get as far as the work."""

from pathlib import Path
from typing import Any

import pytest

from adcommon.errors import BadValue
from adcommon.training.settings import EvaluateSettings, FewShotSettings, Settings


@pytest.mark.parametrize(
    ("cls", "given", "message"),
    [
        (Settings, {"workers": -1}, "workers is -1"),
        (Settings, {"workers": 5000}, "workers is 5000"),
        (Settings, {"false_alarm_rate": 0.0}, "false_alarm_rate is 0.0"),
        (Settings, {"false_alarm_rate": float("nan")}, "false_alarm_rate is nan"),
        (Settings, {"save_every": 0}, "save_every is 0"),
        (Settings, {"gpu": "0", "device": "cpu"}, "--gpu and --device were both given"),
        (Settings, {"resume": True, "force": True}, "use one of them"),
        (FewShotSettings, {"feature_memory": -1.0}, "feature_memory is -1.0"),
        (FewShotSettings, {"feature_memory": float("inf")}, "feature_memory is inf"),
        (EvaluateSettings, {"model": Path("m"), "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_impossible_values_are_refused(cls: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadValue, match=message):
        cls(**given)
