import torch
from torch import Generator, Tensor

from adcommon.data.augment import random_colour_jitter, random_flips, random_quarter_turn, turns


def pair(size: int = 32) -> tuple[Tensor, Tensor]:
    """An image that shows its own mask: white where anomalous."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[4:14, 18:26] = True
    return mask[None].float().repeat(3, 1, 1), mask


def test_image_and_mask_move_together() -> None:
    image, mask = pair()
    moved = 0
    for seed in range(20):
        for augment in (random_flips, random_quarter_turn):
            turned, turned_mask = augment(image, mask, Generator().manual_seed(seed))
            assert torch.equal(turned[0] > 0.5, turned_mask)
            moved += not torch.equal(turned_mask, mask)
    assert moved > 20


def test_each_quarter_turn_is_as_likely_as_the_others() -> None:
    image, mask = pair()
    generator = Generator().manual_seed(0)
    turns = [random_quarter_turn(image, mask, generator)[1] for _ in range(400)]
    counts = [sum(torch.equal(turn, mask.rot90(k)) for turn in turns) for k in range(4)]
    assert sum(counts) == 400
    assert min(counts) > 70


def test_flips_of_probability_one_turn_by_180_degrees_and_of_zero_do_nothing() -> None:
    image, mask = pair()
    generator = Generator().manual_seed(0)
    flipped, _ = random_flips(image, mask, generator, horizontal=1.0, vertical=1.0)
    assert torch.equal(flipped, image.rot90(2, (-2, -1)))
    same, _ = random_flips(image, mask, generator, horizontal=0.0, vertical=0.0)
    assert torch.equal(same, image)


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
