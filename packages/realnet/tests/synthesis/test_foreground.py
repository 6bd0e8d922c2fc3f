import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import closing, footprint_rectangle, opening

from adcommon.data.catalog import DATASETS
from adcommon.errors import UnknownName
from realnet.synthesis.foreground import ALL, NAMED, ForegroundRule, rule_for

SQUARE = np.zeros((64, 64), dtype=bool)
SQUARE[16:48, 20:44] = True


def picture(inside: int, outside: int) -> np.ndarray:
    """A square on a ground, with a gap in the square and a speck beside it."""
    values = np.where(SQUARE, inside, outside).astype(np.uint8)
    values[30:32, 30:32] = outside
    values[5, 5] = inside
    return np.repeat(values[..., None], 3, axis=2)[None]


@pytest.mark.parametrize("name", [name for name in NAMED if name != "all"])
def test_a_rule_finds_an_object_on_its_side_without_gaps_and_specks(name) -> None:
    bright = name.endswith("bright")
    images = picture(200, 50) if bright else picture(50, 200)
    assert np.array_equal(NAMED[name](images)[0], SQUARE)


@pytest.mark.parametrize(("inside", "outside"), [(200, 50), (50, 200)])
def test_the_object_is_what_the_border_is_not_whichever_is_brighter(inside, outside) -> None:
    images = picture(inside, outside)
    images[0, 24:40, 26:38] = outside  # a hole
    assert np.array_equal(NAMED["object"](images)[0], SQUARE)
    images[0, 20:26, :21] = inside  # cut by the picture's left side
    assert NAMED["object"](images)[0, 20:26, 0].all()


def test_what_fills_the_picture_is_all_of_it_object() -> None:
    stripes = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    stripes[:, :, ::16] = stripes[:, :, 1::16] = stripes[:, :, 2::16] = 200
    assert NAMED["object"](stripes).all()


@pytest.mark.parametrize("name", ["otsu", "triangle"])
def test_the_dark_side_is_the_rest_of_the_bright_side(name) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    bright, dark = (ForegroundRule(threshold=name, bright=side)(images) for side in (True, False))
    assert np.array_equal(dark, ~bright)
    assert 0.2 < bright.mean() < 0.8


def test_a_rule_reads_its_channel_only() -> None:
    images = picture(200, 50)
    for channel, number in (("green", 1), ("blue", 2)):
        rule = ForegroundRule(threshold="otsu", channel=channel, close=6, open=6)
        others = images.copy()
        others[..., [c for c in range(3) if c != number]] = 255
        assert np.array_equal(rule(others), rule(images))


def test_closing_and_opening_are_the_maximum_and_minimum_over_squares() -> None:
    coarse = np.random.default_rng(2).integers(0, 256, (1, 20, 20, 3), dtype=np.uint8)
    images = coarse.repeat(2, axis=1).repeat(2, axis=2)
    plain = ForegroundRule(threshold="otsu")(images)[0]
    square = np.ones((3, 3), dtype=bool)
    closed = ndimage.binary_erosion(ndimage.binary_dilation(plain, square), square, border_value=1)
    opened = ndimage.binary_dilation(ndimage.binary_erosion(closed, square, border_value=1), square)
    assert np.array_equal(ForegroundRule(threshold="otsu", close=3)(images)[0], closed)
    assert np.array_equal(ForegroundRule(threshold="otsu", close=3, open=3)(images)[0], opened)
    assert len({int(mask.sum()) for mask in (plain, closed, opened)}) == 3


@pytest.mark.parametrize("side", [6, 8, 15])
def test_squares_of_even_sides_too_are_those_of_scikit_image(side) -> None:
    coarse = np.random.default_rng(side).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    plain = ForegroundRule(threshold="otsu")(images)[0]
    square = footprint_rectangle((side, side))
    found = ForegroundRule(threshold="otsu", close=side, open=side)(images)[0]
    assert np.array_equal(found, opening(closing(plain, square), square))


def test_each_image_of_a_batch_has_its_own_threshold() -> None:
    images = np.concatenate([picture(200, 150), picture(90, 20)])
    rule = NAMED["otsu-bright"]
    assert np.array_equal(rule(images), np.stack([SQUARE, SQUARE]))


@pytest.mark.parametrize("dataset", ["mvtec", "visa", "mpdd", "btad"])
def test_every_category_of_the_paper_with_a_background_has_a_rule(dataset) -> None:
    everywhere = {category for category in DATASETS[dataset].categories if rule_for(dataset, category) == ALL}
    assert (
        everywhere
        == {
            "mvtec": {"carpet", "leather", "tile", "wood", "cable", "transistor"},
            "visa": {"capsules"},
            "mpdd": set(),
            "btad": {"02"},
        }[dataset]
    )


def test_other_data_is_foreground_everywhere() -> None:
    assert rule_for("folder", "screw") == rule_for("mvtec", "potato") == NAMED["all"] == ALL
    assert ALL(picture(200, 50)).all()


def test_an_unknown_rule_is_named_with_those_there_are() -> None:
    with pytest.raises(
        UnknownName, match="unknown foreground rule: 'otsu-brigth'; did you mean 'otsu-bright'"
    ):
        rule_for("folder", "screw", "otsu-brigth")
