import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import label, regionprops
from sklearn import metrics as sklearn_metrics

from adcommon.metrics import aupro, auroc, f1_max
from adcommon.metrics.variants.mvtec3d import mvtec3d_evaluation_aupro_100
from adcommon.metrics.variants.rankings import mirrored_auroc
from inctrl.metrics import inctrl_metrics, winclip_metrics
from realnet.metrics import realnet_metrics, realnet_pro
from recontrast.metrics import (
    recontrast_aupro,
    recontrast_aupro_per_image,
    recontrast_aupro_pooled,
    recontrast_best_f1,
)
from resad.metrics import resad_aupro, resad_metrics
from uniad.metrics import uniad_metrics


def quietly(function: Callable, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


def drawn(images: int = 5, size: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps with higher scores in rectangles and a ring; the first image is normal."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((images, size, size), dtype=bool)
    for mask in masks[1:]:
        top, left = generator.integers(0, size - 12, 2)
        mask[top : top + 11, left : left + 9] = True
        mask[top + 3 : top + 6, left + 3 : left + 6] = False
        mask[0, 0] = mask[-1, -1] = True
    noise = ndimage.gaussian_filter(generator.normal(size=masks.shape), (0, 2, 2))
    return (noise / noise.std() + masks).astype(np.float32), masks


def every_column(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """All values of all references, by the golden files' keys."""
    scores, labels = maps.max(axis=(1, 2)), (masks > 0).any(axis=(1, 2))
    decision = recontrast_best_f1(scores, labels)
    realnet, uniad = realnet_metrics(maps, masks), uniad_metrics(maps, masks)
    resad, inctrl = resad_metrics(maps, masks, scores, labels, True), inctrl_metrics(scores, labels)
    return {
        "recontrast_aupro_as_used": recontrast_aupro(maps, masks),
        "recontrast_aupro_pooled": recontrast_aupro_pooled(maps, masks),
        "recontrast_pixel_auroc": auroc(maps, masks > 0),
        "recontrast_image_auroc": auroc(scores, labels),
        "recontrast_noseg_f1": decision.f1,
        "recontrast_noseg_acc": decision.accuracy,
        "recontrast_noseg_thr": decision.threshold,
        "realnet_image_auc": realnet.image_auroc,
        "realnet_pixel_auc": realnet.pixel_auroc,
        "realnet_pro_auc": realnet.pro,
        "uniad_mean_auc": uniad.mean,
        "uniad_std_auc": uniad.std,
        "uniad_max_auc": uniad.max,
        "uniad_pixel_auc": uniad.pixel,
        "resad_image_auroc": resad.image_auroc,
        "resad_image_ap": resad.image_ap,
        "resad_image_f1": resad.image_f1,
        "resad_pixel_auroc": resad.pixel_auroc,
        "resad_pixel_ap": resad.pixel_ap,
        "resad_pixel_f1": resad.pixel_f1,
        "resad_aupro": resad.aupro,
        "inctrl_image_auroc": inctrl.auroc,
        "inctrl_image_ap": inctrl.auprc,
        "mvtec3d_evaluation_aupro_100": mvtec3d_evaluation_aupro_100(maps, masks),
    }


@pytest.fixture(scope="module")
def golden_root(request: pytest.FixtureRequest) -> Path:
    """The golden files of the metrics are the shared package's."""
    given = request.config.getoption("--golden-root")
    return Path(given or Path(request.path).parent.parent / "packages" / "adcommon" / "tests" / "golden")


def test_every_reference_equals_its_golden_values(golden_root: Path) -> None:
    read = 0
    for path in sorted((golden_root / "metrics").glob("*.npz")):
        golden = np.load(path)
        if "reference_errors" not in golden:
            continue
        got = quietly(every_column, golden["maps"], golden["masks"])
        described = {"maps", "masks", "description", "reference_errors"}
        assert {name for name in golden if not name.startswith("exact_")} == described | set(got)
        raised = json.loads(str(golden["reference_errors"]))
        for name, value in got.items():
            tolerance = 5e-6 if name.startswith("resad") else 1e-6
            expected = float(golden[name])
            assert value == pytest.approx(expected, abs=tolerance, nan_ok=True), (path.name, name)
            assert np.isnan(expected) or (name not in raised)
        read += 1
    assert read >= 17


def test_every_golden_file_is_read_by_a_test(golden_root: Path) -> None:
    files = {path.stem: np.load(path) for path in (golden_root / "metrics").glob("*.npz")}
    others = {name for name, arrays in files.items() if "exact_pixel_auroc" not in arrays}
    assert others == {"spro", "postprocess", "prepare_fundus", "prepare_splits"}


def sampled_curve(
    maps: np.ndarray, masks: np.ndarray, thresholds: np.ndarray, filled: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """PRO and FPR by labelling and thresholding everything again for each threshold."""
    pro, fpr = [], []
    for threshold in thresholds:
        found = maps > threshold
        overlaps = []
        for prediction, mask in zip(found, masks, strict=True):
            for region in regionprops(label(mask, connectivity=2)):
                box = prediction[region.slice]
                shape = region.image_filled if filled else region.image
                overlaps.append((box & shape).sum() / region.area)
        pro.append(np.mean(overlaps))
        fpr.append((found & ~masks).sum() / (~masks).sum())
    return np.array(pro), np.array(fpr)


def plain_recontrast(maps: np.ndarray, masks: np.ndarray, steps: int = 200) -> float:
    low, high = maps.min(), maps.max()
    pro, fpr = sampled_curve(maps, masks, np.arange(low, high, (high - low) / steps))
    x = fpr[fpr < 0.3]
    return sklearn_metrics.auc(x / x.max(), pro[fpr < 0.3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_recontrast_values_are_those_of_labelling_at_every_threshold(dtype: type) -> None:
    maps, masks = drawn()
    maps = maps.astype(dtype)
    values = recontrast_aupro_per_image(maps, masks)
    assert np.isnan(values[0])
    expected = [plain_recontrast(maps[i : i + 1], masks[i : i + 1]) for i in range(1, 5)]
    assert values[1:] == pytest.approx(expected, abs=1e-15)
    assert recontrast_aupro(maps, masks) == pytest.approx(np.mean(expected), abs=1e-15)
    for steps in (50, 200):
        assert recontrast_aupro_pooled(maps, masks, steps) == pytest.approx(
            plain_recontrast(maps, masks, steps), abs=1e-15
        )


def test_recontrast_depends_on_the_scale_of_scores_and_the_exact_metric_does_not() -> None:
    maps, masks = drawn()
    steep = np.exp(3 * maps.astype(np.float64))
    assert abs(recontrast_aupro_pooled(steep, masks) - recontrast_aupro_pooled(maps, masks)) > 0.05
    assert aupro(steep, masks) == pytest.approx(aupro(maps, masks), abs=1e-4)


def test_recontrast_undefined_images_are_named_with_their_reason_in_one_warning() -> None:
    maps, masks = drawn()
    maps[1] = 3
    masks[2] = True
    masks[3] = False
    maps[4][~masks[4]] = maps[4].max() + 1
    with pytest.warns(UserWarning, match="undefined") as caught:
        values = recontrast_aupro_per_image(maps, masks, list("abcde"), np.array([0, 1, 1, 1, 1]))
    assert np.isnan(values).all()
    assert len(caught) == 1
    text = str(caught[0].message)
    assert (
        "b: constant or infinite map; c: mask without a normal pixel; d: empty mask; e: fewer than two"
        in text
    )
    assert np.isnan(quietly(recontrast_aupro, maps, masks))


def test_recontrast_without_false_positives_below_the_limit_is_undefined() -> None:
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[0, :2] = True
    with pytest.warns(UserWarning, match="image 0: no false positive") as caught:
        assert np.isnan(recontrast_aupro(mask.astype(np.float64), mask))
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (recontrast_aupro, "no image is anomalous"),
        (recontrast_aupro_pooled, "empty mask"),
        (realnet_pro, "no anomalous region"),
        (resad_aupro, "no anomalous region"),
        (mvtec3d_evaluation_aupro_100, "no anomalous region"),
    ],
)
def test_without_anomalies_all_are_nan_with_one_warning(function: Callable, reason: str) -> None:
    maps, masks = drawn()
    with pytest.warns(UserWarning, match=reason) as caught:
        assert np.isnan(function(maps, np.zeros_like(masks)))
    assert len(caught) == 1


def test_best_f1_prefers_the_larger_sum_of_precision_and_recall() -> None:
    # 2 of 4 found without false alarm, and 3 of 4 with two: F1 is 2/3 both times, P + R is 1.5 and 1.35.
    labels = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1])
    scores = np.arange(11.0)[::-1]
    decision = recontrast_best_f1(scores, labels)
    assert decision.threshold == 9
    assert (decision.f1, decision.accuracy, decision.specificity) == (pytest.approx(2 / 3), 9 / 11, 1)
    assert f1_max(scores, labels) == (pytest.approx(2 / 3), 6)
    assert np.isnan(recontrast_best_f1(scores, np.ones_like(labels)).specificity)


def test_realnet_counts_filled_holes_over_the_unfilled_area() -> None:
    maps, masks = drawn()
    high, low = maps.max(), maps.min()
    pro, fpr = sampled_curve(
        maps, masks, high - np.arange(1000, dtype=np.float32) * ((high - low) / 1000), True
    )
    x, y = fpr[fpr <= 0.3], pro[fpr <= 0.3]
    assert realnet_pro(maps, masks) == pytest.approx(
        sklearn_metrics.auc((x - x.min()) / np.ptp(x), y), abs=1e-14
    )
    ring = np.zeros((1, 9, 9), dtype=bool)
    ring[0, 2:7, 2:7] = True
    ring[0, 3:6, 3:6] = False
    bright = np.zeros((1, 9, 9))
    bright[0, 2:7, 2:7] = 1
    bright[0, 0, 0] = 1
    assert realnet_pro(bright + 0.001 * np.arange(9), ring) > 1


def test_resad_gives_one_half_if_at_most_two_points_are_left() -> None:
    maps, masks = drawn()
    inverted = np.where(masks, 0.0, 1.0)
    assert resad_aupro(inverted, masks) == 0.5
    assert resad_metrics(maps, masks, maps.max(axis=(1, 2)), masks.any(axis=(1, 2))).aupro == -1
    with pytest.warns(UserWarning, match="constant or infinite maps"):
        assert np.isnan(resad_aupro(np.zeros_like(maps), masks))


def test_mirrored_auroc_warns_when_it_hides_an_inverted_model() -> None:
    scores, labels = np.array([0.9, 0.8, 0.1, 0.3]), np.array([0, 0, 1, 1])
    with pytest.warns(UserWarning, match=r"UniAD max AUROC is 0\.0000, reported as 1\.0000") as caught:
        assert mirrored_auroc(scores, labels, "UniAD max AUROC") == 1
    assert len(caught) == 1
    assert mirrored_auroc(-scores, labels) == 1


def test_the_rank_rule_approaches_the_exact_value_without_ties() -> None:
    maps, masks = drawn(images=12, size=64)
    assert mvtec3d_evaluation_aupro_100(maps, masks) == pytest.approx(aupro(maps, masks), abs=5e-3)
    assert mvtec3d_evaluation_aupro_100(np.zeros_like(maps), masks) == 0


def test_winclip_measures_a_trapezoid_and_a_grid_of_thresholds() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 50)
    scores = np.round(0.3 * generator.random(50) + 0.05 * labels, 2).astype(np.float32)
    result = winclip_metrics(scores, labels)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels, scores)
    assert result.aupr == pytest.approx(sklearn_metrics.auc(recall, precision), abs=1e-12)
    grid = [sklearn_metrics.f1_score(labels, scores > t, zero_division=0) for t in np.arange(0, 1, 0.01)]
    assert result.f1max == pytest.approx(max(grid), abs=1e-12)
    assert result.auroc == inctrl_metrics(scores, labels).auroc
    with pytest.warns(UserWarning, match="none of 50 images is anomalous"):
        assert np.isnan(winclip_metrics(scores, np.zeros(50, dtype=int)).aupr)


def test_tensors_equal_arrays() -> None:
    maps, masks = drawn()
    tensors = torch.from_numpy(maps), torch.from_numpy(masks)
    assert recontrast_aupro(*tensors) == recontrast_aupro(maps, masks)
    assert quietly(realnet_metrics, *tensors) == quietly(realnet_metrics, maps, masks)
    assert quietly(uniad_metrics, *tensors) == quietly(uniad_metrics, maps, masks)
