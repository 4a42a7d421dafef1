"""Whole exceedance curves: the loss at every return period that the simulated years support, thinned for keeping.

The i-th largest of N sampled years has the return period N / i, as in :mod:`irp_pipeline.losses.figures`. Samples add
no years: a curve ends at the number of simulated years, although the largest sampled years have longer return periods.

Here: which points of a curve are kept, and their losses with the error of the years. Not here: that error itself
(:mod:`irp_pipeline.losses.years_error`), and the figures at the return periods of a workbook.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.losses.figures import COLUMN_OF_CURVE, supported
from irp_pipeline.losses.years_error import Interval, Replicated, replicate, replications_of
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from irp_pipeline.losses.metrics import SampledYears

    Ranks = np.ndarray[Any, np.dtype[np.int64]]

TAIL_RANKS: Final = 1_000
"""The longest return periods: so many ranks are kept one by one."""

NEXT_RANK: Final = 1.01
"""After them, each kept rank is at most so many times the one before."""

CurvePoint = tuple[Metric, float | None]
"""A metric, with its return period in years; AAL has none."""


@dataclass(frozen=True)
class WholeCurves:
    """The curves of one perspective, with the error of the simulated years.

    Attributes:
        points: Metric (OEP, AEP), ReturnPeriod (years), Loss, YearsErrorLow, YearsErrorHigh; by metric, the longest
            return period first. A metric has no rows if no sampled year with a loss is within the simulated years.
        intervals: the error of the years of the AAL, and of the return periods that were asked for.
        replications: how many times the years were resampled.
    """

    points: pa.Table = field(repr=False)
    intervals: Mapping[CurvePoint, Interval]
    replications: int


def whole_curves(years: SampledYears, return_periods: Iterable[float], seed: int) -> WholeCurves:
    """Compute the curves of one perspective.

    Args:
        years: its sampled years.
        return_periods: those to be shown, in years; the curve is exact there.
        seed: of the resampling.
    """
    import numpy as np
    import pyarrow as pa

    asked = supported(sorted(set(return_periods)), years.periods)
    wanted: dict[str, Replicated] = {}
    ranks: dict[Metric, Ranks] = {}
    for metric, column in COLUMN_OF_CURVE.items():
        losses = years.losses[column].to_numpy()
        ranks[metric] = kept_ranks(int(np.count_nonzero(losses > 0)), years.periods, years.samples, asked)
        wanted[column] = Replicated.at(years, column, ranks[metric], asked)
    replications = replications_of(years)
    error = replicate(years, wanted, replications, seed)
    intervals: dict[CurvePoint, Interval] = {(Metric.AAL, None): error.average}
    tables = []
    for metric, column in COLUMN_OF_CURVE.items():
        kept = len(ranks[metric])
        low, high = error.curves[column]
        intervals |= {
            (metric, period): Interval(float(low[place]), float(high[place]))
            for place, period in enumerate(asked, start=kept)
        }
        tables.append(
            pa.table(
                {
                    "Metric": pa.array([metric.value] * kept, pa.string()),
                    "ReturnPeriod": years.number / ranks[metric],
                    "Loss": wanted[column].descending[ranks[metric] - 1],
                    "YearsErrorLow": low[:kept],
                    "YearsErrorHigh": high[:kept],
                }
            )
        )
    return WholeCurves(pa.concat_tables(tables), intervals, replications)


def kept_ranks(with_loss: int, periods: int, samples: int, return_periods: Iterable[float] = ()) -> Ranks:
    """Return the ranks of a curve that are kept.

    The first is that of the longest supported return period, the number of simulated years. It and those after it are
    kept one by one, :data:`TAIL_RANKS` in all; then each is at most :data:`NEXT_RANK` times the one before, up to the
    last with a loss. So the loss that is interpolated at a return period, linearly as by Oasis LMF, is one that the
    exact curve has at a return period within 1 % of it. At the return periods that are given, the curve is exact.
    A curve has at most about 1,000 + 100 ln(sampled years / 1,000) points: 2,200 of a hundred million sampled years.

    Args:
        with_loss: number of sampled years with a loss.
        periods: number of simulated years.
        samples: number of samples of each.
        return_periods: in years, at most ``periods``.

    Returns:
        Ranks from 1 (the largest loss), ascending; none if fewer sampled years have a loss than there are samples.
    """
    import numpy as np

    kept = set(range(samples, min(samples + TAIL_RANKS - 1, with_loss) + 1))
    rank = samples + TAIL_RANKS - 1
    while rank < with_loss:
        rank = min(max(rank + 1, math.floor(rank * NEXT_RANK)), with_loss)
        kept.add(rank)
    for period in return_periods:
        after = math.ceil(periods * samples / period)
        kept |= {rank for rank in (after - 1, after) if samples <= rank <= with_loss}
    return np.array(sorted(kept), np.int64)
