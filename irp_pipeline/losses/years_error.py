"""The error of the simulated years: how much figures would differ if other years had been simulated.

By the bootstrap of B. Efron (Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 7, 1979): as many
years as there are, are drawn from them with replacement, and the figures are computed from these. What is drawn is a
whole year with all its samples, since samples of one year are not independent: they share its events, as clusters do
(A. C. Davison, D. V. Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). The interval is between two
percentiles of many replications (B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

The error of sampling is another one and is not in it, nor is that of the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

    from irp_pipeline.losses.metrics import SampledYears

    Losses = np.ndarray[Any, np.dtype[np.float64]]
    Numbers = np.ndarray[Any, np.dtype[np.signedinteger[Any]]]

LEVEL: Final = 0.9
"""The share of replications that an interval holds; half of the others are below it, half above."""

REPLICATIONS: Final = 1_000
"""How many times years are drawn."""

_FEWEST_REPLICATIONS: Final = 200
_MOST_DRAWN: Final = 1_000_000_000
"""Sampled years with a loss, in all replications: about ten seconds."""


@dataclass(frozen=True)
class Interval:
    """An interval of amounts."""

    low: float
    high: float


@dataclass(frozen=True)
class YearsError:
    """The error of the years.

    Attributes:
        average: of the AAL.
        curves: by column of the sampled years, the lower and the upper bounds of the points asked for.
    """

    average: Interval
    curves: Mapping[str, tuple[Losses, Losses]] = field(repr=False)


@dataclass(frozen=True)
class Replicated:
    """The points of a curve that are computed in each replication.

    A point is between two ranks: ``share`` of the way from the loss of the ``lower`` one to that of the ``upper`` one.

    Attributes:
        descending: the losses above zero, the largest first, and a zero after them.
        year: the number of the year of each, from 0.
        lower: rank of each point, from 1.
        upper: the rank before it, or the same rank.
        share: from 0 to 1.
    """

    descending: Losses
    year: Numbers
    lower: Numbers
    upper: Numbers
    share: Losses

    @classmethod
    def at(cls, years: SampledYears, column: str, ranks: Numbers, return_periods: Sequence[float]) -> Replicated:
        """Make the points at some ranks, and after them those at some return periods, given in years."""
        import numpy as np

        losses = years.losses[column].to_numpy().astype(np.float64)
        order = np.argsort(-losses, kind="stable")[: np.count_nonzero(losses > 0)]
        numbers = counting_type(years)  # half the memory, and twice the speed
        year = years.losses["Period"].to_numpy().take(order).astype(numbers) - 1
        below, above, shares = list(ranks), list(ranks), [0.0] * len(ranks)
        for period in return_periods:
            rank = math.ceil(years.number / period)
            here = years.number / rank
            is_between = here < period and rank > 1
            longer = years.number / (rank - 1) if is_between else math.inf
            below.append(rank)
            above.append(rank - 1 if is_between else rank)
            shares.append((period - here) / (longer - here) if is_between else 0.0)
        return cls(
            np.append(losses.take(order), 0.0),
            year,
            np.array(below, numbers),
            np.array(above, numbers),
            np.array(shares, np.float64),
        )

    def of(self, times: Numbers) -> Losses:
        """Return the losses of the points, when each year counts so many times."""
        import numpy as np

        # Each loss comes as often as its year: the last of them has the rank up to which they are counted.
        counted = np.cumsum(times.take(self.year), dtype=times.dtype)
        lower, upper = (np.searchsorted(counted, ranks) for ranks in (self.lower, self.upper))
        at_lower = self.descending.take(lower)
        between = at_lower + self.share * (self.descending.take(upper) - at_lower)
        return np.where(at_lower > 0, between, 0.0)  # beyond the last loss there is none, and no way to none


def counting_type(years: SampledYears) -> type[np.signedinteger[Any]]:
    """Return the type of numbers that counts all sampled years."""
    import numpy as np

    return np.int32 if years.number <= np.iinfo(np.int32).max else np.int64


def replications_of(years: SampledYears) -> int:
    """Return how many times years are drawn: fewer if there are more than a million sampled years with a loss."""
    return int(min(REPLICATIONS, max(_FEWEST_REPLICATIONS, _MOST_DRAWN // max(years.losses.num_rows, 1))))


def replicate(years: SampledYears, points: Mapping[str, Replicated], replications: int, seed: int) -> YearsError:
    """Draw the years many times, and return the intervals of the AAL and of points of curves.

    All figures of a replication are of the same years. With the same seed and number of years, so are those of
    different losses, so that the intervals of an analysis, its groups and its next quarter differ by their losses only.

    Args:
        years: the sampled years of one perspective.
        points: the points of curves, by column of the sampled years.
        replications: how many times.
        seed: of the generator (PCG64 of NumPy).
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    of_year = np.bincount(
        years.losses["Period"].to_numpy() - 1, weights=years.losses["AnnualLoss"].to_numpy(), minlength=years.periods
    )
    averages = np.empty(replications)
    found = {column: np.empty((replications, len(of.lower))) for column, of in points.items()}
    for number in range(replications):
        drawn = generator.integers(0, years.periods, years.periods)
        times = np.bincount(drawn, minlength=years.periods).astype(counting_type(years))
        averages[number] = times @ of_year / years.number
        for column, of in points.items():
            found[column][number] = of.of(times)
    bounds = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(averages, bounds)
    curves = {column: tuple(np.quantile(losses, bounds, axis=0)) for column, losses in found.items()}
    return YearsError(Interval(float(low), float(high)), curves)
