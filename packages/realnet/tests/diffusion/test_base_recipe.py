import pytest

from adcommon.errors import BadValue
from realnet.diffusion.recipes import ClassifierRecipe, DiffusionRecipe


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (DiffusionRecipe, {"image_size": 100}, "multiple of 32 pixels"),
        (DiffusionRecipe, {"width": 40}, "level 0 would have 40 channels; expected a multiple of 32"),
        (DiffusionRecipe, {"width": 32, "attention_at": (1,)}, "heads' 64"),
        (DiffusionRecipe, {"attention_at": (64,)}, "attention_at has 64"),
        (DiffusionRecipe, {"iterations": 0}, "iterations is 0"),
        (ClassifierRecipe, {"chunk_size": 0}, "chunk_size is 0"),
        (ClassifierRecipe, {"width": 32, "channel_mult": (1, 1, 1, 1, 1, 1)}, "heads' 64"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(make, changes: dict, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        make(**changes)


def test_each_network_has_its_name_in_folders_and_commands() -> None:
    assert (DiffusionRecipe().method, ClassifierRecipe().method) == (
        "realnet-diffusion",
        "realnet-classifier",
    )
