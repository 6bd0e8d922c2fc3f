import pytest

from uniad.published import PUBLISHED
from uniad.recipes import CIFAR10_SPLITS, RECIPES


def test_published_numbers_belong_to_recipes_and_are_fractions() -> None:
    assert PUBLISHED.keys() <= RECIPES.keys()
    values = [value for table in PUBLISHED.values() for row in table.values() for value in row.values()]
    assert all(0.5 < value < 1 for value in values)


def test_the_cifar_mean_is_that_of_its_splits() -> None:
    table = PUBLISHED["cifar10"]
    mean = sum(table[split]["image_auroc"] for split in CIFAR10_SPLITS) / len(CIFAR10_SPLITS)
    assert mean == pytest.approx(table["mean"]["image_auroc"], abs=6e-4)
