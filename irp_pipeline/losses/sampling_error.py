"""The error of sampling of a difference: how much it would differ with other draws of damage in the same years.

By the delete-one jackknife (J. W. Tukey, Bias and Confidence in Not-quite Large Samples, Annals of Mathematical
Statistics 29, 1958; B. Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 7, 1979): a figure
is computed again without the first sample of every year, without the second, and so on. What the figures of both sides
have in common when the same sample is left out, is no error of their difference: locations that did not change have the
same draws on both sides. Oasis LMF spreads the draws of a location evenly over its samples (Latin hypercube), which
makes the mean more certain than this says: it is an upper estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.losses.figures import COLUMN_OF_CURVE, loss_at, supported
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    import numpy as np

    from irp_pipeline.losses.metrics import SampledYears

    Losses = np.ndarray[Any, np.dtype[np.float64]]
    LeftOut = Mapping["SamplePoint", Losses]

SamplePoint = tuple[str, float | None]
"""A metric, with its return period in years; AAL has none."""

_FEWEST_SAMPLES: Final = 2


def without_each_sample(years: SampledYears, return_periods: Iterable[float]) -> dict[SamplePoint, Losses]:
    """Return figures computed without one of the samples.

    Args:
        years: the sampled years of one perspective.
        return_periods: in years; those beyond the simulated years are left out.

    Returns:
        By metric and return period, for AAL, OEP and AEP: an amount for each sample that was left out, in their order.
        Empty if there are fewer than two samples.
    """
    import numpy as np

    samples = years.samples
    if samples < _FEWEST_SAMPLES:
        return {}
    sample = years.losses["SampleId"].to_numpy()
    annual = years.losses["AnnualLoss"].to_numpy()
    sums = np.bincount(sample - 1, weights=annual, minlength=samples)
    found: dict[SamplePoint, Losses] = {(Metric.AAL, None): (sums.sum() - sums) / (years.periods * (samples - 1))}
    asked = supported(sorted(set(return_periods)), years.periods)
    observations = years.periods * (samples - 1)
    for metric, column in COLUMN_OF_CURVE.items() if asked else ():
        losses = years.losses[column].to_numpy()
        order = np.argsort(-losses, kind="stable")[: np.count_nonzero(losses > 0)]  # once, and not for each sample
        descending, of_sample = losses.take(order), sample.take(order)
        curves = np.empty((samples, len(asked)))
        for left_out in range(1, samples + 1):
            others = descending[of_sample != left_out]
            curves[left_out - 1] = [loss_at(others, observations, period) for period in asked]
        found |= {(metric, period): curves[:, place] for place, period in enumerate(asked)}
    return found


def sampling_errors(before: LeftOut, after: LeftOut) -> dict[SamplePoint, float]:
    """Return the standard error of sampling of each difference, an amount.

    Args:
        before: one side, as :func:`without_each_sample` returns it.
        after: the other side. With another number of samples, no sample of one is that of the other, and the errors of
            both add up in squares.
    """
    found = {}
    for point in before.keys() & after.keys():
        one, other = before[point], after[point]
        alike = len(one) == len(other)
        found[point] = _jackknife(other - one) if alike else math.hypot(_jackknife(one), _jackknife(other))
    return found


def _jackknife(values: Losses) -> float:
    number = len(values)
    return math.sqrt((number - 1) / number * float(((values - values.mean()) ** 2).sum()))
