import numpy as np
import pytest

from adcommon.errors import BadValue
from realnet.diffusion.schedule import kept_steps, make_betas, make_schedule


def test_a_process_that_keeps_all_steps_has_the_betas_of_the_full_one() -> None:
    np.testing.assert_allclose(make_schedule(100).betas, make_betas("linear", 100), rtol=1e-12)


@pytest.mark.parametrize("respacing", ["ddim20", "10,10,5", [3, 4]])
def test_a_respaced_process_is_as_noisy_at_each_kept_step_as_the_full_one(respacing) -> None:
    full, kept = make_schedule(1000), make_schedule(1000, respacing=respacing)
    np.testing.assert_allclose(kept.alphas_cumprod, full.alphas_cumprod[kept.timesteps], rtol=1e-12)


def test_the_posterior_of_a_gaussian_image_is_what_bayes_says() -> None:
    schedule = make_schedule(50)
    t, clean, noisy = 30, 0.7, -0.2
    # q(x_{t-1} | x_0) times q(x_t | x_{t-1}), both normal in x_{t-1}.
    before, beta = schedule.alphas_cumprod_prev[t], schedule.betas[t]
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (np.sqrt(before) * clean / (1 - before) + np.sqrt(1 - beta) * noisy / beta) / precision
    assert schedule.posterior_variance[t] == pytest.approx(1 / precision, rel=1e-12)
    found = schedule.posterior_mean_coef1[t] * clean + schedule.posterior_mean_coef2[t] * noisy
    assert found == pytest.approx(mean, rel=1e-12)
    assert schedule.posterior_log_variance_clipped[0] == np.log(schedule.posterior_variance[1])


def test_strides_and_sections_keep_the_steps_of_the_reference() -> None:
    assert kept_steps(1000, "ddim20") == list(range(0, 1000, 50))
    # A running sum, rounded: a multiple of the stride would keep 150 instead of 149.
    assert 149 in kept_steps(300, "10,15,20")
    assert kept_steps(10, "1,3") == [0, 5, 7, 9]
    assert kept_steps(10, [0, 2]) == [5, 9]
    assert kept_steps(7, "2,2") == [0, 3, 4, 6]


@pytest.mark.parametrize(
    ("respacing", "message"),
    [
        ("ddim1", "no stride through 1000 steps keeps exactly 1"),
        ("ddim600", "no stride"),
        ("ddimten", "expected ddim20 and the like"),
        ("600,10", "asks for 600 steps of part 1, which has 500"),
        ("-1,10", "asks for -1 steps"),
        ("1", "keeps 1 of 1000 steps"),
    ],
)
def test_an_impossible_respacing_is_an_error(respacing: str, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        make_schedule(1000, respacing=respacing)


def test_every_kind_of_schedule_and_the_error_of_an_unknown_one() -> None:
    linear = make_betas("linear", 500)
    assert (linear[0], linear[-1]) == (0.0002, 0.04)
    assert set(make_betas("const0.015", 500)) == {0.03}
    cosine = make_betas("cosine", 100)
    assert cosine[-1] == 0.999
    assert (np.diff(cosine) > 0)[:-1].all()
    for kind, steps, message in (
        ("sine", 100, "unknown noise schedule 'sine'"),
        ("linear", 10, "no 10 steps"),
    ):
        with pytest.raises(BadValue, match=message):
            make_betas(kind, steps)


def test_times_are_rescaled_only_where_it_is_asked_for() -> None:
    assert make_schedule(200, respacing="ddim20").times[1] == 10
    assert make_schedule(200, respacing="ddim20", rescale_times=True).times[1] == 50
