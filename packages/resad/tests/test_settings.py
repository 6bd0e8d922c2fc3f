from pathlib import Path

import pytest

from adcommon.errors import BadValue
from resad.settings import TestSettings, TrainSettings


def test_each_dataset_has_its_own_folder_and_own_images_are_tested_on() -> None:
    settings = TrainSettings(data_root=Path("all"), data=Path("mine"))
    assert (settings.train_root(), settings.test_root()) == (Path("all"), Path("mine"))
    settings = TrainSettings(train_dataset_dir=Path("a"), test_dataset_dir=Path("b"))
    assert (settings.train_root(), settings.test_root()) == (Path("a"), Path("b"))
    assert TestSettings(model=Path("m"), test_dataset_dir=Path("b")).test_root() == Path("b")


def test_the_authors_files_go_to_their_folder_or_stay_with_the_run() -> None:
    assert TrainSettings().checkpoints(Path("run")) == Path("run/checkpoints")
    assert TrainSettings(checkpoint_path=Path("c")).checkpoints(Path("run")) == Path("c")


def test_two_sources_of_references_are_refused() -> None:
    with pytest.raises(BadValue, match="use one of them"):
        TrainSettings(test_ref_feature_dir=Path("a"), few_shot_dir=Path("b"))
    with pytest.raises(BadValue, match="feature_memory is"):
        TrainSettings(feature_memory=-1.0)
