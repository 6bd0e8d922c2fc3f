import pytest

from baselines.padim.published import PAPER, PUBLISHED
from baselines.padim.recipes import RECIPES


def test_every_number_belongs_to_a_recipe_and_is_a_fraction() -> None:
    assert PUBLISHED.keys() <= RECIPES.keys()
    for categories in PUBLISHED.values():
        for numbers in categories.values():
            assert all(0.5 < value <= 1 for value in numbers.values())


def test_the_paper_is_named() -> None:
    assert "https://arxiv.org/abs/" in PAPER.citation


def test_the_papers_numbers_stand_beside_its_own_recipe() -> None:
    assert PUBLISHED["mvtec"]["mean"]["image_auroc"] == pytest.approx(0.953)
