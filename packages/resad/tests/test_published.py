from resad.published import PUBLISHED
from resad.recipes import SETTINGS


def test_published_means_are_fractions_of_known_settings() -> None:
    assert set(PUBLISHED) <= set(SETTINGS)
    for means in PUBLISHED.values():
        assert all(0.7 <= value < 1 for value in means["mean"].values())
