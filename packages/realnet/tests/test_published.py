import pytest

from realnet.published import PUBLISHED
from realnet.recipes import RECIPES


def test_every_number_belongs_to_a_recipe_and_is_a_fraction() -> None:
    assert PUBLISHED.keys() <= RECIPES.keys()
    for categories in PUBLISHED.values():
        for metrics in categories.values():
            assert all(0.5 < value < 1 for value in metrics.values())


def test_they_are_those_of_the_authors_table_within_its_rounding() -> None:
    table = {"mvtec": (0.996, 0.990), "mpdd": (0.963, 0.982), "btad": (0.961, 0.979), "visa": (0.978, 0.988)}
    for recipe, (image, pixel) in table.items():
        found = PUBLISHED[recipe]["mean"]
        assert found["image_auroc"] == pytest.approx(image, abs=0.00051)
        assert found["pixel_auroc"] == pytest.approx(pixel, abs=0.00051)
