import torch

from realnet.diffusion.draws import generator, normal, seed_step


def drawn(*facts: int) -> torch.Tensor:
    seed_step(*facts)
    return torch.rand(4)


def test_the_draws_of_a_step_depend_on_seed_process_and_step_alone() -> None:
    first = drawn(1, 0, 5)
    assert torch.equal(first, drawn(1, 0, 5))
    for other in (drawn(2, 0, 5), drawn(1, 1, 5), drawn(1, 0, 6)):
        assert not torch.equal(first, other)


def test_normal_numbers_depend_on_what_the_generator_was_named_after() -> None:
    first = normal((1000,), generator(1, 2), "cpu")
    assert torch.equal(first, normal((1000,), generator(1, 2), "cpu"))
    assert not torch.equal(first, normal((1000,), generator(2, 1), "cpu"))
    assert abs(first.mean()) < 0.15
    assert abs(first.std() - 1) < 0.1
