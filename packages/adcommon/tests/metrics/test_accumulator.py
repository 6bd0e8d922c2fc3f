import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from adcommon.errors import BadValue
from adcommon.metrics import PixelMetrics, PixelResult, aupro

LIMITS = (0.01, 0.05, 0.1, 0.3, 1.0)


def drawn(images: int = 6, size: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy maps, higher inside a rectangle; every third image is normal."""
    generator = np.random.default_rng(seed)
    maps = generator.normal(size=(images, size, size)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for number in range(images):
        if number % 3:
            top, left = generator.integers(0, size - 8, 2)
            masks[number, top : top + 5, left : left + 7] = True
            masks[number, 0, size - 1] = True
    return maps + masks, masks


def measured(maps: np.ndarray, masks: np.ndarray, limits: tuple[float, ...] = (0.3, 0.05)) -> PixelResult:
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    return metrics.compute(limits)


def assert_equal(a: PixelResult, b: PixelResult) -> None:
    """Bit-equal but for AUPRO, whose sum may run over tied pixels in another order."""
    assert (a.auroc, a.ap, a.f1max, a.threshold) == (b.auroc, b.ap, b.f1max, b.threshold)
    assert (a.regions, a.positives, a.negatives) == (b.regions, b.positives, b.negatives)
    assert a.aupro == pytest.approx(b.aupro, abs=1e-14)


def test_metrics_equal_the_golden_values(golden_root: Path) -> None:
    read = 0
    for path in sorted((golden_root / "metrics").glob("*.npz")):
        golden = np.load(path)
        if "exact_pixel_auroc" not in golden:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = measured(golden["maps"], golden["masks"], LIMITS)
        values = {
            "num_regions": result.regions,
            "pixel_auroc": result.auroc,
            "pixel_ap": result.ap,
            "pixel_f1max": result.f1max,
            "pixel_f1max_threshold": result.threshold,
        } | {f"aupro_{limit:g}": value for limit, value in result.aupro.items()}
        exact = {name for name in golden if name.startswith("exact_") and "image" not in name}
        assert exact == {f"exact_{name}" for name in values}
        for name, value in values.items():
            assert value == pytest.approx(float(golden[f"exact_{name}"]), abs=1e-9, nan_ok=True), (
                path.name,
                name,
            )
        read += 1
    assert read >= 17


def test_pixel_metrics_equal_scikit_learn() -> None:
    maps, masks = drawn()
    result = measured(maps, masks)
    assert result.auroc == pytest.approx(
        sklearn_metrics.roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12
    )
    assert result.ap == pytest.approx(
        sklearn_metrics.average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12
    )
    assert result.f1max == pytest.approx(
        sklearn_metrics.f1_score(masks.ravel(), maps.ravel() >= result.threshold)
    )
    assert result.aupro == {0.3: aupro(maps, masks), 0.05: aupro(maps, masks, 0.05)}
    assert (result.positives, result.negatives) == (masks.sum(), (~masks).sum())


@given(st.permutations(range(6)), st.integers(0, 6))
def test_batches_in_any_order_and_merged_parts_equal_the_whole(order: list[int], cut: int) -> None:
    maps, masks = drawn()
    maps = np.round(maps)  # many ties
    first, second = PixelMetrics(), PixelMetrics()
    for number in order[:cut]:
        first.update(maps[number], masks[number])
    second.update(maps[order[cut:]], masks[order[cut:]])
    first.merge(second)
    assert_equal(first.compute(), measured(maps, masks))


def test_computing_and_merging_leave_everything_usable() -> None:
    maps, masks = drawn()
    first, second = PixelMetrics(), PixelMetrics()
    first.update(maps[:3], masks[:3])
    second.update(maps[3:], masks[3:])
    before = second.compute()
    first.compute()
    first.merge(second)
    whole = measured(maps, masks)
    assert_equal(first.compute(), whole)
    assert_equal(first.compute(), whole)
    assert_equal(second.compute(), before)
    second.update(maps[:3], masks[:3])
    assert_equal(second.compute(), whole)


def test_images_may_differ_in_size() -> None:
    maps, masks = drawn(size=24)
    wide_maps, wide_masks = drawn(size=31, seed=1)
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    metrics.update(wide_maps[1, :, :17], wide_masks[1, :, :17])
    scores = np.concatenate([maps.ravel(), wide_maps[1, :, :17].ravel()])
    labels = np.concatenate([masks.ravel(), wide_masks[1, :, :17].ravel()])
    assert metrics.compute().auroc == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)


def test_later_changes_of_the_maps_do_not_matter() -> None:
    maps, masks = drawn()
    expected = measured(maps, masks)
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    maps[:] = 0
    masks[:] = False
    assert_equal(metrics.compute(), expected)


@pytest.mark.parametrize(
    "change",
    [lambda m: m * 255, lambda m: m.astype(np.int16) * 3, lambda m: m.astype(np.float32), torch.from_numpy],
    ids=["0/255", "int16", "float of two values", "tensor"],
)
def test_every_kind_of_mask_gives_the_same(change) -> None:
    maps, masks = drawn()
    assert_equal(measured(maps, change(masks)), measured(maps, masks))


def test_mask_values_do_not_split_regions() -> None:
    mask = np.array([[0, 1, 2, 5, 0]], dtype=np.uint8)
    assert measured(np.arange(5.0)[None], mask).regions == 1


def test_tensors_equal_arrays() -> None:
    maps, masks = drawn()
    assert_equal(
        measured(torch.from_numpy(maps).requires_grad_(), torch.from_numpy(masks)), measured(maps, masks)
    )


def test_interpolated_masks_are_refused() -> None:
    maps, masks = drawn()
    soft = masks.astype(np.float32)
    soft[1, 0, 0] = 0.5
    with pytest.raises(
        BadValue, match=r"image 1: the mask is float32 with 3 different values.*resize masks with nearest"
    ):
        PixelMetrics().update(maps, soft)


def test_nan_is_refused_with_the_image_and_the_number_and_nothing_is_added() -> None:
    maps, masks = drawn()
    spoiled = maps.copy()
    spoiled[4, 2, 3:5] = np.nan
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    with pytest.raises(BadValue, match="screw/004: 2 of 576 values of the anomaly map are NaN"):
        metrics.update(spoiled, masks, names=[f"screw/{number:03d}" for number in range(6)])
    with pytest.raises(BadValue, match="image 10: 2 of 576"):
        metrics.update(spoiled, masks)
    assert_equal(metrics.compute(), measured(maps, masks))


def test_sizes_that_do_not_fit_are_refused() -> None:
    maps, masks = drawn()
    with pytest.raises(BadValue, match=r"anomaly maps have shape \(6, 24, 24\) but masks \(6, 24, 12\)"):
        PixelMetrics().update(maps, masks[:, :, :12])
    with pytest.raises(BadValue, match="2 names for 6 anomaly maps"):
        PixelMetrics().update(maps, masks, names=["a", "b"])
    with pytest.raises(BadValue, match="1 labels for 6 anomaly maps"):
        PixelMetrics().update(maps, masks, labels=[1])


def test_infinite_scores_are_ranked() -> None:
    maps, masks = drawn()
    extreme = np.where(maps == maps.max(), np.inf, np.where(maps == maps.min(), -np.inf, maps))
    assert measured(extreme, masks).aupro == measured(maps, masks).aupro


def test_float64_scores_are_not_narrowed() -> None:
    maps, masks = drawn()
    fine = 1000 + maps.astype(np.float64) * 1e-10
    assert measured(fine, masks).auroc == pytest.approx(measured(maps, masks).auroc, abs=1e-4)
    assert np.unique(fine.astype(np.float32)).size == 1


@pytest.mark.parametrize(
    ("mask", "undefined", "reason"),
    [
        (
            0,
            {"auroc", "ap", "f1max", "threshold", "aupro"},
            "pixel AUROC, AUPRO, pixel AP, pixel F1-max undefined",
        ),
        (1, {"auroc", "aupro"}, r"pixel AUROC, AUPRO undefined \(NaN\): none of 8 pixels is normal"),
    ],
)
def test_undefined_is_nan_with_exactly_one_warning(mask: int, undefined: set[str], reason: str) -> None:
    with pytest.warns(UserWarning, match=reason) as caught:
        result = measured(np.arange(8.0).reshape(2, 2, 2), np.full((2, 2, 2), mask))
    assert len(caught) == 1
    values = {name: getattr(result, name) for name in ("auroc", "ap", "f1max", "threshold")}
    values["aupro"] = sum(result.aupro.values())
    assert {name for name, value in values.items() if np.isnan(value)} == undefined


def test_worse_than_chance_warns() -> None:
    maps, masks = drawn()
    with pytest.warns(UserWarning, match="pixel AUROC is 0.*below 0.5: are the scores inverted"):
        assert measured(-maps, masks).auroc < 0.5


def test_anomalous_images_with_an_empty_mask_are_counted_and_named() -> None:
    maps, masks = drawn()
    first, second = PixelMetrics(), PixelMetrics()
    first.update(maps[:3], masks[:3], labels=torch.tensor([1, 1, 1]), names=["a", "b", "c"])
    second.update(maps[3], masks[3], labels=[1], names=["d"])
    first.merge(second)
    with pytest.warns(
        UserWarning, match="2 of 4 images are labelled anomalous but have an empty mask.*: a, d$"
    ) as caught:
        first.compute()
    assert len(caught) == 1


def test_curves_for_plots_have_the_areas_of_the_metrics() -> None:
    maps, masks = drawn()
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    result = metrics.compute(limits=[1.0])
    pro, roc = metrics.curve("pro"), metrics.curve("roc", points=50)
    assert np.trapezoid(pro.value, pro.fpr) == pytest.approx(result.aupro[1.0], abs=1e-4)
    assert np.trapezoid(roc.value, roc.fpr) == pytest.approx(result.auroc, abs=1e-3)
    assert len(roc.fpr) <= 50
    assert np.all(np.diff(pro.fpr) >= 0)
    assert np.all(np.diff(pro.value) >= 0)


def test_pro_at_a_threshold_is_read_off_the_maps() -> None:
    mask = np.array([[1, 1, 0, 1]])
    metrics = PixelMetrics()
    metrics.update(np.array([[3.0, 1.0, 9.0, 2.0]]), mask)
    assert metrics.pro_at(2.0) == 0.75
