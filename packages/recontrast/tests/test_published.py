import pytest

from recontrast.published import PUBLISHED
from recontrast.recipes import CATEGORIES, RECIPES


@pytest.mark.parametrize("name", ["mvtec", "visa"])
def test_the_means_of_the_categories_are_the_published_means(name: str) -> None:
    table = dict(PUBLISHED[name])
    mean = table.pop("mean")
    assert set(table) == set(CATEGORIES[name])
    for metric, value in mean.items():
        assert sum(row[metric] for row in table.values()) / len(table) == pytest.approx(value, abs=1e-4)


def test_every_table_belongs_to_a_recipe_and_uses_the_reports_names() -> None:
    assert set(PUBLISHED) <= set(RECIPES)
    names = {metric for table in PUBLISHED.values() for row in table.values() for metric in row}
    assert names <= {"image_auroc", "pixel_auroc", "aupro", "image_f1", "image_accuracy"}
