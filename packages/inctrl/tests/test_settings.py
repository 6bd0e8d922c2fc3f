from pathlib import Path

import pytest

from adcommon.errors import BadValue
from inctrl.settings import TestSettings, TrainSettings


def test_auxiliary_and_test_images_have_roots_of_their_own() -> None:
    settings = TrainSettings(data=Path("mine"), data_root=Path("all"))
    assert (settings.root(), settings.train_root()) == (Path("mine"), Path("all"))
    assert TrainSettings(train_data=Path("theirs")).train_root() == Path("theirs")


def test_memory_is_given_in_gigabytes() -> None:
    assert (
        TrainSettings(feature_memory=0.5).memory_bytes()
        == TestSettings(feature_memory=0.5).memory_bytes()
        == 2**29
    )
    with pytest.raises(BadValue, match="feature_memory is"):
        TrainSettings(feature_memory=-1.0)


def test_the_only_model_is_found_and_of_several_that_of_the_shots(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"no model below .*inctrl-train"):
        TestSettings().find_model(tmp_path)
    for shots in (2, 8):
        (tmp_path / "inctrl-own" / f"{shots}-shot" / "model").mkdir(parents=True)
    assert TestSettings(shots=8).find_model(tmp_path).parent.name == "8-shot"
    with pytest.raises(BadValue, match="several models"):
        TestSettings().find_model(tmp_path)
    assert TestSettings(model=Path("named")).find_model(tmp_path) == Path("named")
