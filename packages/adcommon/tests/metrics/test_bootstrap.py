import numpy as np
import pytest

from adcommon.metrics import auroc, auroc_difference_interval, auroc_interval


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    labels = np.repeat([0, 1], [30, 50])
    return (generator.normal(size=80) + labels).round(1), labels  # rounded: there are ties


def test_it_is_the_quantiles_of_aurocs_of_images_drawn_anew(images) -> None:
    scores, labels = images
    generator = np.random.default_rng(8)
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    drawn = []
    for _ in range(3000):  # one by one, as it is written down
        places = np.concatenate([generator.choice(group, len(group)) for group in groups])
        drawn.append(auroc(scores[places], labels[places]))
    wanted = np.quantile(drawn, [0.025, 0.975])
    assert auroc_interval(scores, labels) == pytest.approx(wanted, abs=0.01)
    low, high = auroc_interval(scores, labels)
    assert low < auroc(scores, labels) < high


def test_a_narrower_level_lies_inside(images) -> None:
    wide, narrow = (auroc_interval(*images, level=level) for level in (0.95, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_true_value_is_inside_as_often_as_is_said() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        labels = np.repeat([0, 1], [40, 60])
        low, high = auroc_interval(generator.normal(size=100) + labels, labels, draws=300)
        inside += low <= 0.7602 <= high  # of two unit Gaussians one apart
    assert 178 <= inside <= 199  # 95 % of 200, three deviations around


def test_where_everything_is_in_order_there_is_no_width() -> None:
    assert auroc_interval(np.arange(10.0), np.arange(10) > 4) == (1.0, 1.0)


@pytest.mark.parametrize("labels", [np.zeros(5), np.ones(5)])
def test_one_kind_of_image_has_no_interval(labels) -> None:
    assert auroc_interval(np.arange(5.0), labels) is None


@pytest.mark.filterwarnings("ignore:AUROC is")  # that of drawn images may lie below 0.5
def test_a_difference_is_that_of_the_same_drawn_images(images) -> None:
    scores, labels = images
    others = scores + np.random.default_rng(9).normal(size=80)
    generator = np.random.default_rng(8)
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    drawn = []
    for _ in range(3000):
        places = np.concatenate([generator.choice(group, len(group)) for group in groups])
        drawn.append(auroc(scores[places], labels[places]) - auroc(others[places], labels[places]))
    wanted = np.quantile(drawn, [0.025, 0.975])
    assert auroc_difference_interval(scores, others, labels) == pytest.approx(wanted, abs=0.012)
    assert auroc_difference_interval(scores, scores, labels) == (0.0, 0.0)
    assert auroc_difference_interval(scores, 2 * scores + 1, labels) == (0.0, 0.0)
    assert auroc_difference_interval(scores, others, np.zeros(80)) is None
