import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adcommon.errors import BadValue
from adcommon.metrics import PixelMetrics, PixelResult
from adcommon.metrics.bins import Bins, order_key, score_of_key
from adcommon.metrics.bounds import _reciprocal_sum
from adcommon.metrics.streaming import StreamingMetrics, StreamingResult, streaming_metrics

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def exact(maps: np.ndarray, masks: np.ndarray) -> PixelResult:
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metrics.compute(LIMITS)


def streamed(maps: np.ndarray, masks: np.ndarray, bits: int) -> StreamingMetrics:
    metrics = StreamingMetrics(bits, maps.dtype.name)
    metrics.update(maps, masks)
    return metrics


def computed(metrics: StreamingMetrics) -> StreamingResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metrics.compute(LIMITS)


def assert_holds(bounds: StreamingResult, truth: PixelResult) -> None:
    """Every interval holds the exact value, and the streamed value too."""
    pairs = [(bounds.auroc, truth.auroc), (bounds.ap, truth.ap), (bounds.f1max, truth.f1max)]
    pairs += [(bounds.aupro[limit], truth.aupro[limit]) for limit in LIMITS]
    for bounded, value in pairs:
        assert np.isnan(bounded.value) == np.isnan(value)
        if not np.isnan(value):
            assert bounded.low - 1e-12 <= value <= bounded.high + 1e-12
            assert bounded.low - 1e-12 <= bounded.value <= bounded.high + 1e-12
    assert (bounds.regions, bounds.positives, bounds.negatives) == (
        truth.regions,
        truth.positives,
        truth.negatives,
    )


@st.composite
def stacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Maps of close and far scores with ties, both signs and both zeros, and masks of several regions."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    values = st.sampled_from(
        [-np.inf, -3.0, -0.0, 0.0, 1e-30, 1.0, 1.001, 1.002, 1.01, 20.0, 20.00001, np.inf]
    )
    maps = draw(hnp.arrays(np.float32, shape, elements=values.map(lambda value: float(np.float32(value)))))
    masks = draw(hnp.arrays(np.bool_, shape))
    masks[0, 0, 0], masks[-1, -1, -1] = True, False
    return maps, masks


@given(stacks(), st.sampled_from([1, 4, 10, 16]))
def test_the_exact_value_is_within_the_bound(case: tuple[np.ndarray, np.ndarray], bits: int) -> None:
    assert_holds(computed(streamed(*case, bits)), exact(*case))


@given(stacks())
def test_tolerance_zero_gives_the_exact_values(case: tuple[np.ndarray, np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = streaming_metrics(lambda: [case], tolerance=0.0, limits=LIMITS, bits=8)
    truth = exact(*case)
    assert result.error == 0
    assert result.auroc.value == pytest.approx(truth.auroc, abs=1e-12)
    assert {limit: bounded.value for limit, bounded in result.aupro.items()} == pytest.approx(
        truth.aupro, abs=1e-12
    )


@pytest.mark.parametrize("bits", [6, 12, 16])
def test_golden_values_are_within_the_bound_before_and_after_refinement(golden_root: Path, bits: int) -> None:
    read = 0
    for path in sorted((golden_root / "metrics").glob("*.npz")):
        golden = np.load(path)
        if "exact_pixel_auroc" not in golden:
            continue
        maps, masks = golden["maps"], golden["masks"]
        metrics, truth = streamed(maps, masks, bits), exact(maps, masks)
        assert_holds(computed(metrics), truth)
        metrics = metrics.refine(1e-4, LIMITS)
        metrics.update(maps, masks)
        assert_holds(computed(metrics), truth)
        read += 1
    assert read >= 17


def test_a_second_pass_reaches_the_tolerance_where_scores_share_their_leading_bits() -> None:
    generator = np.random.default_rng(0)
    masks = generator.random((4, 64, 64)) < 0.02
    maps = (20 + generator.random(masks.shape) + 0.3 * masks).astype(np.float32)
    first = computed(streamed(maps, masks, 16))
    assert first.error > 1e-2
    passes = []

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        passes.append(len(passes))
        yield from zip(maps, masks, strict=True)

    result = streaming_metrics(batches, limits=LIMITS, bits=16)
    assert len(passes) == 2
    assert result.error <= 1e-4
    assert_holds(result, exact(maps, masks))


def test_the_threshold_reaches_the_reported_f1() -> None:
    generator = np.random.default_rng(1)
    masks = generator.random((3, 32, 32)) < 0.1
    maps = (generator.normal(size=masks.shape) + 2 * masks).astype(np.float32)
    result = computed(streamed(maps, masks, 12))
    found = maps >= result.threshold
    assert 2 * (found & masks).sum() / (found.sum() + masks.sum()) == pytest.approx(
        result.f1max.value, abs=1e-12
    )


def test_only_chosen_bins_are_split_and_every_key_has_its_bin() -> None:
    bins = Bins.uniform(4, np.dtype(np.float32))
    finer = bins.split(np.array([9, 3]), room=16)
    finest = finer.split(finer.index(np.array([bins.first[9]])), room=2**12)
    assert finer.bits.tolist() == [28] * 3 + [25] * 8 + [28] * 5 + [25] * 8 + [28] * 6
    assert len(finest.first) == len(finer.first) - 1 + 2**12
    assert finest.bits.min() == 25 - 12
    keys = np.random.default_rng(0).integers(0, 2**32, 5000).astype(np.uint32)
    for partition in (bins, finer, finest):
        np.testing.assert_array_equal(
            partition.index(keys), np.searchsorted(partition.first, keys, side="right") - 1
        )
        np.testing.assert_array_equal(np.diff(partition.first.astype(np.int64)), 2.0 ** partition.bits[:-1])


def test_merged_parts_equal_the_whole_also_after_refinement() -> None:
    generator = np.random.default_rng(2)
    masks = generator.random((4, 16, 16)) < 0.1
    maps = generator.normal(size=masks.shape).astype(np.float32)
    whole, first, second = (
        streamed(maps[part], masks[part], 8) for part in (slice(4), slice(1), slice(1, 4))
    )
    first.merge(second)
    assert computed(first) == computed(whole)
    refined = [first.refine(), first.refine()]
    refined[0].update(maps[:2], masks[:2])
    refined[1].update(maps[2:], masks[2:])
    refined[0].merge(refined[1])
    assert computed(refined[0]).auroc.error < computed(whole).auroc.error
    with pytest.raises(BadValue, match="different bins"):
        first.merge(refined[0])


def test_a_precision_that_would_make_scores_equal_is_refused() -> None:
    with pytest.raises(BadValue, match=r'is float64, but as float32 some scores.*dtype="float64"'):
        StreamingMetrics().update(np.zeros((2, 2)), np.eye(2))
    wide = StreamingMetrics(dtype="float64")
    wide.update(np.eye(2, dtype=np.float16), np.eye(2))
    assert wide.compute().auroc.value == 1


def test_maps_that_cannot_be_read_twice_are_an_error() -> None:
    maps, masks = (
        np.float32(20) + np.arange(4, dtype=np.float32).reshape(1, 2, 2) * 1e-4,
        np.array([[[0, 1], [0, 1]]]),
    )
    once = iter([(maps, masks)])
    with pytest.raises(BadValue, match="starts the same pass each time"):
        streaming_metrics(lambda: once, bits=4)


def test_undefined_is_nan_with_exactly_one_warning_and_one_pass() -> None:
    with pytest.warns(UserWarning, match="none of 4 pixels is anomalous") as caught:
        result = streaming_metrics(lambda: [(np.ones((2, 2), np.float32), np.zeros((2, 2)))])
    assert len(caught) == 1
    assert np.isnan([result.auroc.value, result.ap.low, result.f1max.high, result.threshold]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keys_have_the_order_of_the_scores(dtype: type) -> None:
    limits = np.finfo(dtype)
    scores = np.array([-np.inf, limits.min, -1, -limits.tiny, 0, limits.tiny, 1, limits.max, np.inf], dtype)
    keys = order_key(scores)
    assert np.all(np.diff(keys.astype(object)) > 0)
    assert order_key(np.array([-0.0], dtype)) == order_key(np.array([0.0], dtype))
    assert [score_of_key(int(key), np.dtype(dtype)) for key in keys] == scores.tolist()
    assert score_of_key(0, np.dtype(dtype)) == -np.inf


@given(st.integers(0, 10**12), st.integers(0, 200))
def test_sums_of_reciprocals_are_accurate(start: int, count: int) -> None:
    got = _reciprocal_sum(np.array([start]), np.array([count]))[0]
    assert got == pytest.approx(sum(1 / (start + j) for j in range(1, count + 1)), rel=1e-12, abs=1e-300)
