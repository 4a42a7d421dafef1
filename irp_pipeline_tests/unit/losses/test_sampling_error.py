"""The error of sampling of a difference, by leaving out one sample after the other."""

import numpy as np
import pyarrow as pa
import pytest

from irp_pipeline.losses import SampledYears, figures
from irp_pipeline.losses.sampling_error import SamplePoint, sampling_errors, without_each_sample
from irp_pipeline.vocabulary import Metric, Perspective

PERIODS, RETURN_PERIODS = 40, [2, 5, 20]


def sampled(draws: np.ndarray) -> SampledYears:
    """Years with one event each, from losses by year and sample; years without a loss are missing."""
    periods, samples = draws.shape
    year, sample = (part.ravel() for part in np.indices(draws.shape))
    losses = draws.ravel()
    table = pa.table({"Period": year + 1, "SampleId": sample + 1, "AnnualLoss": losses, "LargestLoss": losses})
    return SampledYears(table.filter(pa.array(losses > 0)), periods, samples)


def drawn(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.5, 100.0, (PERIODS, samples)) * (np.arange(PERIODS) % 3)[:, None]


def test_each_figure_is_that_of_the_other_samples():
    draws = drawn(6, 1)
    found = without_each_sample(sampled(draws), RETURN_PERIODS)
    for left_out in range(6):
        others = sampled(np.delete(draws, left_out, axis=1))
        table = others.losses
        expected = figures(
            table, perspective=Perspective.GUL, periods=PERIODS, samples=5, return_periods=RETURN_PERIODS
        )
        for of in expected:
            if of.metric != Metric.STD_DEV:
                assert found[of.metric, of.return_period][left_out] == pytest.approx(of.loss)
    assert len(found) == 7


def test_what_both_sides_have_in_common_is_no_error_of_their_difference():
    draws = drawn(8, 2)
    same = without_each_sample(sampled(draws), RETURN_PERIODS)
    shifted = without_each_sample(sampled(draws * 2), RETURN_PERIODS)
    assert set(sampling_errors(same, same).values()) == {0.0}
    alone = sampling_errors({point: values * 0 for point, values in same.items()}, same)
    assert sampling_errors(same, shifted) == pytest.approx(alone)


def test_with_other_numbers_of_samples_the_errors_add_up_in_squares():
    one, other = (without_each_sample(sampled(drawn(samples, 3)), []) for samples in (5, 9))
    zero = {point: values * 0 for point, values in other.items()}
    of_one = sampling_errors({point: values * 0 for point, values in one.items()}, one)[Metric.AAL, None]
    of_other = sampling_errors(zero, other)[Metric.AAL, None]
    assert sampling_errors(one, other)[Metric.AAL, None] == pytest.approx((of_one**2 + of_other**2) ** 0.5)


def test_the_error_is_how_much_the_difference_varies_with_other_draws():
    """The stated error of the AAL and of a curve, beside the spread of many differences with draws of their own."""
    differences: dict[SamplePoint, list[float]] = {}
    stated: dict[SamplePoint, list[float]] = {}
    for seed in range(200):
        before, after = drawn(10, 2 * seed), 1.5 * drawn(10, 2 * seed + 1)
        sides = [sampled(draws) for draws in (before, after)]
        losses = [
            {
                (of.metric, of.return_period): of.loss
                for of in figures(
                    side.losses, perspective=Perspective.GUL, periods=PERIODS, samples=10, return_periods=[5]
                )
            }
            for side in sides
        ]
        errors = sampling_errors(*(without_each_sample(side, [5]) for side in sides))
        for point, error in errors.items():
            differences.setdefault(point, []).append(losses[1][point] - losses[0][point])
            stated.setdefault(point, []).append(error)
    for point, values in differences.items():
        assert np.mean(stated[point]) == pytest.approx(np.std(values), rel=0.25), point


def test_a_single_sample_says_nothing():
    assert without_each_sample(sampled(drawn(1, 4)), RETURN_PERIODS) == {}
