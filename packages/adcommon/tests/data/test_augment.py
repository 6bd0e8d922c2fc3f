import torch
from torch import Generator

from adcommon.data.augment import random_colour_jitter, random_orientations, turns


def orientations(count: int, **chances) -> list[int]:
    """What becomes of each of some images that all look alike: which of a square's eight orientations."""
    image = torch.arange(9.0).reshape(1, 3, 3)
    chances = {"horizontal": 0.0, "vertical": 0.0, "turn": False} | chances
    images = random_orientations(image.expand(count, 1, 3, 3), Generator().manual_seed(0), **chances)
    possible = [image.rot90(k, (-2, -1)) for k in range(4)]
    possible += [turned.flip(-1) for turned in possible]
    return [next(n for n, one in enumerate(possible) if torch.equal(one, image)) for image in images]


def test_every_orientation_is_as_likely_as_the_others() -> None:
    turned = orientations(400, turn=True)
    assert min(turned.count(k) for k in range(4)) > 70
    assert set(turned) == {0, 1, 2, 3}
    assert set(orientations(200, horizontal=0.5, vertical=0.5, turn=True)) == set(range(8))


def test_flips_of_probability_one_turn_by_180_degrees_and_of_zero_do_nothing() -> None:
    assert orientations(3, horizontal=1.0, vertical=1.0) == [2, 2, 2]
    assert orientations(3) == [0, 0, 0]
    assert orientations(3, horizontal=1.0) == [4, 4, 4]


def test_one_generator_one_result_and_the_global_state_is_not_touched() -> None:
    image = torch.rand(3, 8, 8, generator=Generator().manual_seed(1))
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    results = [
        random_colour_jitter(
            image, Generator().manual_seed(3), brightness=0.3, contrast=0.5, saturation=0.5, hue=0.1
        )
        for _ in range(2)
    ]
    assert torch.equal(*results)
    assert not torch.equal(results[0], image)
    assert torch.equal(torch.rand(3), expected)


def test_no_strength_and_no_probability_leave_colours_alone() -> None:
    image = torch.rand(3, 8, 8, generator=Generator().manual_seed(1))
    assert torch.equal(random_colour_jitter(image, Generator().manual_seed(0)), image)
    assert torch.equal(
        random_colour_jitter(image, Generator().manual_seed(0), brightness=0.5, hue=0.5, probability=0.0),
        image,
    )


def test_brightness_stays_within_its_range() -> None:
    image = torch.full((3, 4, 4), 0.5)
    generator = Generator().manual_seed(0)
    means = [random_colour_jitter(image, generator, brightness=0.2).mean().item() for _ in range(100)]
    assert 0.4 <= min(means) < 0.42
    assert 0.58 < max(means) <= 0.6


def test_quarters_are_exact_and_other_turns_show_no_border() -> None:
    images = torch.randn(2, 3, 32, 32, generator=Generator().manual_seed(0))
    quarters = list(turns(images, 4))
    for number, turned in enumerate(quarters):
        assert torch.equal(turned, images.rot90(number, dims=(2, 3)))
    ones = torch.ones(1, 3, 32, 32)
    assert all(torch.allclose(turned, ones) for turned in turns(ones, 12))
    eighth = list(turns(images, 8))[1]
    assert eighth.shape == images.shape
    assert not torch.allclose(eighth, images)
