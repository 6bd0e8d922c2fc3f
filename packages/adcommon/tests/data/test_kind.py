"""An image of the same kind is hardly ever unfamiliar, however few are known; of another one it often is."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageFilter

from adcommon.data import load_records
from adcommon.data.kind import RATE, STATISTICS, Kind, appearance, unfamiliar, widening
from adcommon.errors import BadValue
from adcommon.types.records import Record


def parts(count: int, brightness: float = 120) -> list[Image.Image]:
    """Grey noise whose brightness varies by 20."""
    generator = np.random.default_rng(0)
    return [
        Image.fromarray(
            generator.normal(brightness + 5 * (number % 5), 20, (60, 80)).clip(0, 255).astype(np.uint8)
        )
        for number in range(count)
    ]


def kind_of(images: Sequence[Image.Image]) -> Kind:
    kind = Kind.of([appearance(image) for image in images])
    assert kind is not None
    return kind


def opened(records: Sequence[Record]) -> list[Image.Image]:
    return [Image.open(record.image) for record in records]


@pytest.mark.parametrize("images", [8, 20, 100])
def test_the_rate_holds_where_tails_are_exponential(images: int) -> None:
    drawn = np.random.default_rng(1).exponential(size=(200_000, images))
    low, high = drawn.min(axis=1), drawn.max(axis=1)
    beyond = np.exp(-(high + widening(images) * (high - low))).mean()  # of one end of one statistic
    assert beyond * 2 * len(STATISTICS) == pytest.approx(RATE, rel=0.1)


def test_real_images_are_known_from_those_of_another_kind() -> None:
    cells, textile = load_records("elpv", None, "mono"), load_records("textile", None, "textile")
    known = {"cells": kind_of(opened(cells.train[::8])), "textile": kind_of(opened(textile.train[::15]))}
    same = {"cells": opened(cells.test[::8]), "textile": opened(textile.test[::50])}  # half of them anomalous
    for name, kind in known.items():
        assert [unfamiliar([kind], appearance(image)) for image in same[name]] == [None] * len(same[name])
    for image in same["cells"]:
        assert unfamiliar([known["textile"]], appearance(image)) is not None
        assert unfamiliar(list(known.values()), appearance(image)) is None  # it is of one of the kinds
    for image in same["textile"]:
        said = unfamiliar([known["textile"]], appearance(image.filter(ImageFilter.GaussianBlur(3))))
        assert str(said).startswith(f"much more blurred than all {known['textile'].images} normal images")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda image: image.point(lambda value: value - 90), "darker"),
        (lambda image: image.point(lambda value: 100 + 0.2 * value), "lower in contrast"),
        (lambda image: Image.merge("RGB", (image, image.point(lambda value: 0.7 * value), image)), "redder"),
        (lambda image: image.resize((30, 80)), "narrower"),
        (lambda image: image.resize((480, 360)), "larger"),
    ],
)
def test_it_is_said_in_which_way(change, word: str) -> None:
    known = [kind_of(parts(40))]
    assert unfamiliar(known, appearance(parts(1)[0])) is None
    said = unfamiliar(known, appearance(change(parts(1)[0])))
    assert said is not None
    assert said.startswith(f"much {word} than all 40 normal images of the model (")


def test_few_images_say_little() -> None:
    assert Kind.of([appearance(image) for image in parts(7)]) is None
    dim = appearance(parts(1, 70)[0])
    assert unfamiliar([kind_of(parts(8))], dim) is None
    assert unfamiliar([kind_of(parts(200))], dim) is not None
    assert unfamiliar([], dim) is None


def test_what_no_images_give_is_refused() -> None:
    ranges = dict(kind_of(parts(8)).ranges)
    for images, changed, message in (
        (7, {}, "a kind of 7 images"),
        (8, {"brightness": (3.0, 2.0)}, "brightness is 3 to 2; expected numbers that rise"),
        (8, {"size": (0.0, 2.0)}, "size is 0 to 2"),
        (8, {"scent": (0.0, 2.0)}, "expected at least 8 images, and brightness"),
    ):
        with pytest.raises(BadValue, match=message):
            Kind(images=images, ranges=ranges | changed)
