"""Average annual loss, standard deviation and exceedance curves, by the rules of Oasis LMF 2.5.

Each sample of each year counts as a separate year: ``EPCalc`` 2, full uncertainty (``oasislmf.pytools.lec``), and
``SampleType`` 2, the sampled average (``oasislmf.pytools.aal``). Oasis LMF computes in single precision and this module
in double precision: the two agree to about seven digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.losses.metrics import SampledYears, declared_losses
from irp_pipeline.losses.periods import LossError
from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

COLUMN_OF_CURVE: Final = {Metric.OEP: "LargestLoss", Metric.AEP: "AnnualLoss"}
"""The column of the sampled years that each curve is made of."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of an analysis or a group.

    Attributes:
        perspective: whose loss it is.
        metric: a :class:`~irp_pipeline.vocabulary.Metric`, or the name of a declared one
            (:mod:`irp_pipeline.losses.metrics`).
        loss: the amount.
        return_period: in years; only of OEP and AEP, and of a declared metric that has them.
        loss_factor: the share of the insured value that was lost; only of LOSS.
        segment_by: the OED fields of the segment that it belongs to; empty for the whole portfolio.
        segment: the values of these fields.
    """

    perspective: Perspective
    metric: str
    loss: float
    return_period: float | None = None
    loss_factor: float | None = None
    segment_by: tuple[str, ...] = ()
    segment: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it belongs to the whole portfolio, and not to a segment."""
        return not self.segment_by

    def of_segment(self, by: tuple[str, ...], values: tuple[str, ...]) -> Figure:
        """Return it as the figure of a segment."""
        return replace(self, segment_by=by, segment=values)

    @classmethod
    def from_json(cls, figure: Mapping[str, Any]) -> Figure:
        """Read a figure as a risk engine reports it."""
        return cls(
            Perspective(figure["perspective"]),
            Metric.known(figure["metric"]),
            float(figure["loss"]),
            figure.get("return_period"),
            figure.get("loss_factor"),
            tuple(map(str, figure.get("segment_by") or ())),
            tuple(map(str, figure.get("segment") or ())),
        )


def figures(
    losses: pa.Table, *, perspective: Perspective, periods: int, samples: int, return_periods: Iterable[float]
) -> list[Figure]:
    """Compute the figures of one perspective.

    The average is over all sampled years, including those without a loss. The standard deviation is that of a sample
    (``ddof`` 1); it is missing if there is only one sampled year.

    Args:
        losses: sampled years with a loss, as :func:`~irp_pipeline.losses.periods.period_losses` returns them.
        perspective: their perspective.
        periods: number of simulated years.
        samples: number of samples of each year.
        return_periods: in years. Those beyond the simulated years are left out (:func:`supported`).

    Returns:
        AAL, STD_DEV, then OEP and AEP by ascending return period.

    Raises:
        LossError: there are more sampled years with a loss than ``periods`` times ``samples``, or no year at all.
    """
    observations = periods * samples
    if observations < 1 or losses.num_rows > observations:
        raise LossError(
            f"There are losses in {losses.num_rows:,} sampled years, but the number of sampled years is "
            f"{observations:,} (years: {periods:,}, samples of each: {samples:,})"
        )
    annual = losses["AnnualLoss"].to_numpy()
    mean = math.fsum(annual) / observations
    found = [Figure(perspective, Metric.AAL, mean)]
    if observations > 1:
        without_loss = observations - len(annual)
        squares = math.fsum((annual - mean) ** 2) + without_loss * mean**2
        found.append(Figure(perspective, Metric.STD_DEV, math.sqrt(squares / (observations - 1))))
    asked = sorted(set(return_periods))
    for metric, column in COLUMN_OF_CURVE.items():
        curve = exceedance_curve(losses[column].to_numpy(), periods=periods, samples=samples, return_periods=asked)
        found += [Figure(perspective, metric, loss, return_period) for return_period, loss in curve]
    return found


def declared_figures(
    perspective: Perspective, years: SampledYears, return_periods: Iterable[float], leave_out: Iterable[str] = ()
) -> list[Figure]:
    """Compute the metrics that distributions declare; arguments and errors as for
    :func:`~irp_pipeline.losses.metrics.declared_losses`.
    """
    losses = declared_losses(years, return_periods, leave_out)
    return [Figure(perspective, metric, loss, return_period) for metric, return_period, loss in losses]


def supported(return_periods: Iterable[float], periods: int) -> list[float]:
    """Return the return periods that the simulated years support: those not longer than their number.

    Samples add no years. Each sample of each year counts as a year in a curve, but samples of one year share its
    events: nothing is known of what happens less often than once in all simulated years, however many samples there
    are. Oasis LMF gives losses up to years times samples.

    Args:
        return_periods: in years.
        periods: number of simulated years.
    """
    return [years for years in return_periods if years <= periods]


def exceedance_curve(
    losses: np.ndarray[Any, Any], *, periods: int, samples: int, return_periods: Sequence[float]
) -> list[tuple[float, float]]:
    """Return the losses of sampled years at return periods.

    The i-th largest loss has the return period ``periods * samples / i``. Between two of them the loss is interpolated
    linearly in the return period. Below the return period of the smallest loss that is not zero, it is zero
    (``write_return_period_out`` and ``get_loss`` in ``oasislmf/pytools/lec/aggreports/write_tables.py``).

    Args:
        losses: of the sampled years with a loss, in any order.
        periods: number of simulated years.
        samples: number of samples of each year.
        return_periods: in years, above 0.

    Returns:
        Return period and loss, for each of ``return_periods`` that the simulated years support (:func:`supported`).

    Raises:
        LossError: a return period is not above 0.
    """
    import numpy as np

    if wrong := [years for years in return_periods if not years > 0]:
        raise LossError(f"A return period must be above 0 years, not {wrong[0]:g}")
    descending = np.sort(losses[losses > 0])[::-1]
    observations = periods * samples
    return [(years, loss_at(descending, observations, years)) for years in supported(return_periods, periods)]


def loss_at(descending: np.ndarray[Any, Any], observations: int, years: float) -> float:
    """Return the loss at a return period, as :func:`exceedance_curve` does.

    Args:
        descending: the losses above zero, the largest first.
        observations: number of sampled years, those without a loss included.
        years: the return period, above 0.
    """
    rank = math.ceil(observations / years)
    if rank > len(descending):
        return 0.0
    here, loss = observations / rank, float(descending[rank - 1])
    if here == years or rank == 1:
        return loss
    longer, larger = observations / (rank - 1), float(descending[rank - 2])
    return (years - here) * (larger - loss) / (longer - here) + loss
