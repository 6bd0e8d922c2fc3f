from adcommon.data import DATASETS
from inctrl.published import PUBLISHED


def test_published_numbers_are_fractions_of_known_datasets_and_rise_with_references() -> None:
    for dataset, by_shots in PUBLISHED.items():
        assert dataset in DATASETS
        means = [mean for mean, _ in by_shots.values()]
        assert means == sorted(means)
        assert all(0.5 < mean < 1 and 0 < deviation < 0.1 for mean, deviation in by_shots.values())
