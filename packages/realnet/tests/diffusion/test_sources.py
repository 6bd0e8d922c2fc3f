import json
from dataclasses import replace
from pathlib import Path

import pytest

from adcommon.errors import UnknownName
from adcommon.testing.trees import make_mvtec
from adcommon.training.settings import Settings
from realnet.diffusion.recipes import DIFFUSION_RECIPES
from realnet.diffusion.sources import on_own_images, training_images

TINY = DIFFUSION_RECIPES["tiny"]


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    make_mvtec(tmp_path / "mvtec", categories=("bottle", "cable"))
    return tmp_path


def test_classes_follow_the_dataset_and_all_means_every_category(mvtec: Path) -> None:
    images = training_images(TINY, mvtec, ("cable", "bottle"))
    assert list(images) == ["cable", "bottle"]
    assert all(record.label == 0 and "train" in record.image.parts for record in images["cable"])
    folder = replace(TINY, dataset="folder")
    for categories in ((), ("all",)):
        assert list(training_images(folder, mvtec / "mvtec", categories)) == ["bottle", "cable"]


def test_the_classes_of_an_authors_list_follow_the_alphabet(mvtec: Path) -> None:
    lines = [
        {
            "filename": str(path.relative_to(mvtec / "mvtec")),
            "label": 0,
            "label_name": "good",
            "clsname": name,
        }
        for name in ("cable", "bottle")
        for path in sorted((mvtec / "mvtec" / name / "train" / "good").iterdir())
    ]
    (mvtec / "train_uni.json").write_text("\n".join(map(json.dumps, lines)))
    recipe = replace(TINY, meta_train=mvtec / "train_uni.json", image_dir=mvtec / "mvtec")
    assert list(training_images(recipe, mvtec, ())) == ["bottle", "cable"]
    assert list(training_images(recipe, mvtec, ("cable",))) == ["cable"]
    with pytest.raises(UnknownName, match="did you mean 'cable'"):
        training_images(recipe, mvtec, ("cabel",))


def test_own_images_change_the_dataset_of_a_recipe() -> None:
    assert on_own_images(TINY, Settings(data=Path("images"))).dataset == "folder"
    assert on_own_images(TINY, Settings()).dataset == "mvtec"
