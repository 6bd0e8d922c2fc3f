import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sklearn_metrics

from adcommon.errors import BadValue
from adcommon.metrics import Curve, auroc, average_precision, f1_max, image_metrics
from adcommon.metrics.curves import rank, step_curve, thin
from adcommon.metrics.ranking import Ranking


@st.composite
def scored(draw: st.DrawFn, both: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels; both classes occur unless `both` is False."""
    count = draw(st.integers(2, 40))
    scores = draw(hnp.arrays(np.float64, count, elements=st.integers(-4, 4).map(float)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 1)))
    if both:
        labels[0], labels[-1] = 0, 1
    return scores, labels


def quietly(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


def best_f1_by_trying(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    tried = [(sklearn_metrics.f1_score(labels, scores >= t), -t) for t in np.unique(scores)]
    best, negated_threshold = max(tried)
    return best, -negated_threshold


@given(scored())
def test_metrics_equal_scikit_learn_also_with_ties(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assert quietly(auroc, scores, labels) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12
    )
    assert average_precision(scores, labels) == pytest.approx(
        sklearn_metrics.average_precision_score(labels, scores), abs=1e-12
    )
    value, threshold = f1_max(scores, labels)
    expected, expected_threshold = best_f1_by_trying(scores, labels)
    assert value == pytest.approx(expected, abs=1e-12)
    assert threshold == expected_threshold


@given(scored())
def test_only_the_order_of_scores_counts(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    for changed in (100 * scores - 7, np.exp(scores), np.cbrt(scores) + 20):
        result, original = quietly(image_metrics, changed, labels), quietly(image_metrics, scores, labels)
        assert (result.auroc, result.ap, result.f1max) == (original.auroc, original.ap, original.f1max)


@given(scored())
def test_negated_scores_give_one_minus_auroc(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    assert quietly(auroc, -scores, labels) == pytest.approx(1 - quietly(auroc, scores, labels), abs=1e-12)


@given(scored(), st.randoms(use_true_random=False))
def test_order_of_images_is_irrelevant(case: tuple[np.ndarray, np.ndarray], random) -> None:
    scores, labels = case
    order = list(range(len(scores)))
    random.shuffle(order)
    assert quietly(image_metrics, scores[order], labels[order]) == quietly(image_metrics, scores, labels)


extreme = st.sampled_from(
    [-np.inf, -3e38, -7.0, -1e-38, -0.0, 0.0, 1e-40, 1.0, 1.0000001, 20.0, 20.000002, 3e38, np.inf]
)


@given(
    hnp.arrays(np.float32, st.integers(1, 30), elements=extreme.map(np.float32).map(float)),
    st.lists(
        hnp.arrays(np.float32, st.integers(0, 30), elements=extreme.map(np.float32).map(float)), max_size=3
    ),
    st.sampled_from([np.float32, np.float64]),
)
def test_ranks_are_those_of_comparing_every_pair(
    positives: np.ndarray, pieces: list[np.ndarray], dtype: type
) -> None:
    positives = np.sort(positives).astype(dtype)
    pieces = [piece.astype(dtype) if number else piece for number, piece in enumerate(pieces)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranking = Ranking.of(positives, pieces)
    negatives = np.concatenate([np.empty(0), *pieces])
    assert ranking.above.tolist() == (negatives > positives[:, None]).sum(axis=1).tolist()
    assert ranking.not_below.tolist() == (negatives >= positives[:, None]).sum(axis=1).tolist()
    assert ranking.negatives == len(negatives)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int64])
def test_ranks_of_many_scores_are_exact_in_every_precision(dtype: type) -> None:
    generator = np.random.default_rng(0)
    positives = np.sort((100 + 20 * generator.normal(size=500)).astype(dtype))
    negatives = (90 + 15 * generator.normal(size=20_000)).astype(dtype)
    ranking = Ranking.of(positives, [negatives[:7000], negatives[7000:]])
    assert ranking.above.tolist() == [(negatives > score).sum() for score in positives]
    assert ranking.not_below.tolist() == [(negatives >= score).sum() for score in positives]


def test_constant_scores_give_exactly_one_half_without_a_warning() -> None:
    labels = np.arange(997) % 7 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auroc(np.full(997, 0.1), labels) == 0.5


def test_the_f1_threshold_is_the_smallest_of_equals() -> None:
    # {>= 3} and {>= 1} both have F1 = 2/3.
    scores, labels = np.array([3.0, 2.0, 2.0, 1.0]), np.array([1, 0, 0, 1])
    assert f1_max(scores, labels) == (pytest.approx(2 / 3), 1.0)


@pytest.mark.parametrize(
    ("labels", "undefined", "reason"),
    [
        ([0, 0, 0], {"auroc", "ap", "f1max", "threshold"}, "none of 3 images is anomalous"),
        ([1, 1, 1], {"auroc"}, "none of 3 images is normal"),
        ([], {"auroc", "ap", "f1max", "threshold"}, "none of 0 images is anomalous"),
    ],
)
def test_undefined_is_nan_with_exactly_one_warning(
    labels: list[int], undefined: set[str], reason: str
) -> None:
    with pytest.warns(UserWarning, match=reason) as caught:
        result = image_metrics(np.arange(float(len(labels))), np.array(labels, dtype=int))
    assert len(caught) == 1
    assert {
        name for name in ("auroc", "ap", "f1max", "threshold") if np.isnan(getattr(result, name))
    } == undefined


@pytest.mark.parametrize("metric", [auroc, average_precision, f1_max])
def test_each_metric_alone_warns_once_if_nothing_is_anomalous(metric) -> None:
    with pytest.warns(UserWarning, match=r"undefined \(NaN\): none of 2 scores is anomalous") as caught:
        value = metric(np.array([0.1, 0.2]), np.array([0, 0]))
    assert len(caught) == 1
    assert np.isnan(value).all()


def test_worse_than_chance_warns_and_is_not_flipped() -> None:
    with pytest.warns(
        UserWarning, match=r"image AUROC is 0\.0000, below 0\.5: are the scores inverted"
    ) as caught:
        assert image_metrics(np.array([2.0, 1.0]), np.array([0, 1])).auroc == 0
    assert len(caught) == 1


def test_infinite_scores_have_a_rank() -> None:
    assert auroc(np.array([-np.inf, 0.0, 1.0, np.inf]), np.array([0, 0, 1, 1])) == 1


def test_nan_scores_are_refused_with_their_number() -> None:
    with pytest.raises(BadValue, match="scores: 2 of 3 values are NaN"):
        auroc(np.array([np.nan, 0.0, np.nan]), np.array([0, 1, 1]))


def test_labels_must_fit_the_scores_and_be_zero_or_one() -> None:
    with pytest.raises(BadValue, match=r"scores have shape \(3,\) but labels \(2,\)"):
        auroc(np.zeros(3), np.array([0, 1]))
    with pytest.raises(BadValue, match="a label is 255; expected 0"):
        auroc(np.zeros(2), np.array([0, 255]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_tensors_of_any_type_are_accepted(dtype: torch.dtype) -> None:
    scores = torch.tensor([1, 3, 2, 5], dtype=dtype, requires_grad=dtype.is_floating_point)
    assert auroc(scores, torch.tensor([0, 0, 1, 1])) == 0.75


def test_float64_scores_are_not_narrowed() -> None:
    assert auroc(1000 + np.arange(4) * 1e-12, np.array([0, 0, 1, 1])) == 1


@given(scored())
def test_roc_curve_has_the_area_of_auroc(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    curve = step_curve(rank(scores, labels))
    assert np.trapezoid(curve.value, curve.fpr) == pytest.approx(quietly(auroc, scores, labels), abs=1e-9)
    assert (curve.fpr[0], curve.value[0], curve.fpr[-1], curve.value[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize("shape", ["random", "staircase", "smooth"])
def test_thinned_curve_keeps_the_area(shape: str) -> None:
    generator = np.random.default_rng(3)
    steps = {
        "random": generator.exponential(size=(2, 200_000)),
        "staircase": np.stack([np.arange(4000) % 2, np.arange(4000) % 2 == 0]).astype(float),
        "smooth": np.stack([np.linspace(0, 1, 200_000), np.linspace(1, 0, 200_000) ** 9]),
    }[shape]
    fpr, value = (np.append(0.0, np.cumsum(step) / step.sum()) for step in steps)
    thinned = thin(Curve(fpr, value), 2000)
    assert len(thinned.fpr) <= 2000
    assert abs(np.trapezoid(thinned.value, thinned.fpr) - np.trapezoid(value, fpr)) < 1e-4
    assert np.abs(np.interp(fpr, thinned.fpr, thinned.value) - value).mean() < 1e-3


def test_image_metrics_equal_the_golden_values(golden_root: Path) -> None:
    read = 0
    for path in sorted((golden_root / "metrics").glob("*.npz")):
        golden = np.load(path)
        if "exact_image_auroc" not in golden:
            continue
        labels = (golden["masks"] > 0).any(axis=(1, 2))
        result = quietly(image_metrics, golden["maps"].max(axis=(1, 2)), labels)
        for name, value in [
            ("auroc", result.auroc),
            ("ap", result.ap),
            ("f1max", result.f1max),
            ("f1max_threshold", result.threshold),
        ]:
            expected = float(golden[f"exact_image_{name}"])
            assert value == pytest.approx(expected, abs=1e-9, nan_ok=True), (path.name, name)
        read += 1
    assert read >= 17
