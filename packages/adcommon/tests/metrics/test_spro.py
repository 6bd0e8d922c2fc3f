import warnings
from pathlib import Path

import numpy as np
import pytest

from adcommon.data.loco import Saturation, parse_saturations
from adcommon.errors import BadValue
from adcommon.metrics import aupro
from adcommon.metrics.pro import label_regions
from adcommon.metrics.spro import LOCO_LIMITS, LocoMetrics

GROUPS = ("good", "structural", "logical")
WHOLE = {255: Saturation("scratch", 1.0, relative=True)}


@pytest.fixture(scope="module")
def golden(golden_root: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden_root / "metrics" / "spro.npz"))


def collected(golden: dict[str, np.ndarray]) -> LocoMetrics:
    metrics = LocoMetrics(parse_saturations(str(golden["defects_config"])))
    for number in range(len(golden["maps"])):
        channels = golden["channels"][golden["channel_image"] == number]
        metrics.update(golden["maps"][number], channels, GROUPS[golden["image_group"][number]])
    return metrics


def test_spro_equals_the_golden_values(golden: dict[str, np.ndarray]) -> None:
    result = collected(golden).compute()
    expected = {name: float(value) for name, value in golden.items() if name.startswith("exact_")}
    for name, group in {
        "structural": result.structural,
        "logical": result.logical,
        "mean": result.mean,
        "all": result.combined,
    }.items():
        for limit in LOCO_LIMITS:
            assert group.auspro[limit] == pytest.approx(
                expected.pop(f"exact_auspro_{name}_{limit:g}"), abs=1e-9
            )
        assert group.image_auroc == pytest.approx(expected.pop(f"exact_image_auroc_{name}"), abs=1e-9)
    assert not expected


def test_saturation_areas_equal_the_golden_ones(golden: dict[str, np.ndarray]) -> None:
    saturations = parse_saturations(str(golden["defects_config"]))
    for channel, value, area in zip(
        golden["channels"], golden["channel_pixel_value"], golden["saturation_area"], strict=True
    ):
        assert saturations[int(value)].area(int((channel > 0).sum())) == area
        assert set(np.unique(channel)) == {0, value}


def test_spro_equals_trying_every_threshold(golden: dict[str, np.ndarray]) -> None:
    kept = np.isin(golden["image_group"], (0, 1))
    negatives, channels = [], []
    for number in np.flatnonzero(kept):
        own = golden["channel_image"] == number
        negatives.append(golden["maps"][number][~(golden["channels"][own] > 0).any(axis=0)])
        channels += [
            (golden["maps"][number][channel > 0], area)
            for channel, area in zip(golden["channels"][own], golden["saturation_area"][own], strict=True)
        ]
    pooled = np.concatenate(negatives)
    thresholds = np.unique(np.concatenate([golden["maps"][kept].ravel()]))[::-1]
    fpr = [0.0] + [(pooled >= t).mean() for t in thresholds]
    spro = [0.0] + [
        np.mean([min((scores >= t).sum() / area, 1) for scores, area in channels]) for t in thresholds
    ]
    assert np.trapezoid(spro, fpr) == pytest.approx(
        collected(golden).compute().structural.auspro[1.0], abs=1e-12
    )


def test_one_unsaturated_channel_per_region_gives_pro() -> None:
    generator = np.random.default_rng(0)
    masks = np.zeros((4, 20, 20), dtype=bool)
    masks[1:, 3:8, 4:6] = masks[1:, 10:12, 9:19] = True
    maps = generator.normal(size=masks.shape) + 2 * masks
    metrics = LocoMetrics(WHOLE)
    for number in range(4):
        labels, count = label_regions(masks[number])
        channels = 255 * (labels == np.arange(1, count + 1)[:, None, None])
        metrics.update(maps[number], channels, "structural" if count else "good")
    with pytest.warns(UserWarning, match="logical"):
        result = metrics.compute((0.3, 0.05))
    assert result.structural.auspro == pytest.approx(
        {0.3: aupro(maps, masks), 0.05: aupro(maps, masks, 0.05)}
    )


def test_a_defect_counts_as_found_once_its_saturation_area_is() -> None:
    half = LocoMetrics({255: Saturation("missing", 0.5, relative=True)})
    channel = np.zeros((1, 4, 4), dtype=np.uint8)
    channel[0, 0] = 255
    found = np.zeros((4, 4))
    found[0, :2] = 1
    half.update(found, channel, "logical")
    half.update(np.zeros((4, 4)), channel[:0], "good")
    with pytest.warns(UserWarning, match="structural"):
        assert half.compute((0.3,)).logical.auspro[0.3] == 1


@pytest.mark.parametrize(
    ("threshold", "relative", "pixels", "area"),
    [
        (0.35, True, 20, 7),
        (0.35, True, 1, 1),
        (30.0, False, 100, 30),
        (30.0, False, 7, 7),
        (1e5, False, 60, 60),
    ],
)
def test_saturation_area_is_floored_and_between_one_and_the_defect(
    threshold: float, relative: bool, pixels: int, area: int
) -> None:
    assert Saturation("", threshold, relative).area(pixels) == area


def test_undefined_groups_are_nan_and_say_so() -> None:
    metrics = LocoMetrics(WHOLE)
    metrics.update(np.zeros((2, 2)), np.zeros((0, 2, 2), dtype=np.uint8), "good")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = metrics.compute()
    assert [str(warning.message) for warning in caught] == [
        f"AU-sPRO or image AUROC of the {groups} anomalies undefined (NaN): "
        "1 good and 0 anomalous images with 0 channels"
        for groups in ("structural", "logical", "structural and logical")
    ]
    assert np.isnan([*result.mean.auspro.values(), result.mean.image_auroc]).all()


def test_mistakes_are_named() -> None:
    metrics = LocoMetrics(WHOLE)
    flat, channel = np.zeros((2, 2)), np.full((1, 2, 2), 255)
    with pytest.raises(BadValue, match=r"x: the anomaly map has shape \(2, 2\) but its channels \(3, 3\)"):
        metrics.update(flat, np.full((1, 3, 3), 255), "logical", "x")
    with pytest.raises(
        BadValue, match=r"x, channel 0: pixel values \[7\] besides 0; expected one of: 255 \(scratch\)"
    ):
        metrics.update(flat, np.full((1, 2, 2), 7), "logical", "x")
    with pytest.raises(BadValue, match="group 'good' with 1 channels"):
        metrics.update(flat, channel, "good", "x")
    with pytest.raises(BadValue, match="x: 4 of 4 values of the anomaly map are NaN"):
        metrics.update(flat * np.nan, channel, "logical", "x")
