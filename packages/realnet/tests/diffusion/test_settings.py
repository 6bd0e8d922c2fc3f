import pytest

from adcommon.errors import BadValue
from realnet.diffusion.settings import SampleSettings, TrainSettings


@pytest.mark.parametrize("settings_type", [TrainSettings, SampleSettings])
@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"maps": True}, "--maps"),
        ({"eval_size": "original"}, "--eval-size"),
        ({"false_alarm_rate": 0.1}, "--false-alarm-rate"),
    ],
)
def test_what_concerns_scores_is_refused(settings_type, changes: dict, flag: str) -> None:
    settings_type()
    with pytest.raises(BadValue, match=f"{flag} has no effect here"):
        settings_type(**changes)


@pytest.mark.parametrize(
    "changes", [{"weights": "random"}, {"save_every": 3}, {"workers": 1}, {"profile": True}]
)
def test_drawing_begins_with_no_weights_and_loads_no_images(changes: dict) -> None:
    with pytest.raises(BadValue, match="has no effect here"):
        SampleSettings(**changes)
