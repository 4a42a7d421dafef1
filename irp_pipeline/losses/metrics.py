"""Metrics that distributions declare, beside those that this project has itself.

A metric is found by an entry point of the group ``irp_pipeline.metrics``, which names a :class:`MetricDeclaration`;
:data:`DECLARED_METRICS` has them all. It is computed from the losses of sampled years, for each analysis that keeps its
period losses and for each group, and appears wherever figures do: results, exported files, report.

Not here: AAL, standard deviation, OEP and AEP (:mod:`irp_pipeline.losses.figures`), which engines report themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from irp_pipeline.losses.periods import LossError
from irp_pipeline.plugins import Registry, Requirement
from irp_pipeline.vocabulary import Metric

if TYPE_CHECKING:
    import pyarrow as pa

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class SampledYears:
    """What a metric is computed from: each sample of each simulated year.

    Attributes:
        losses: the sampled years with a loss: Period, SampleId, AnnualLoss (all events of the year), LargestLoss.
        periods: number of simulated years.
        samples: number of samples of each.
    """

    losses: pa.Table = field(repr=False)
    periods: int
    samples: int

    @property
    def number(self) -> int:
        """How many sampled years there are, those without a loss included."""
        return self.periods * self.samples


@dataclass(frozen=True)
class MetricDeclaration:
    """A metric.

    Attributes:
        name: capital letters, digits and ``_``; also the name of the entry point.
        title: what tables call it.
        help: one sentence on what it is.
        compute: gives the amount, of the sampled years and, if ``at_return_periods``, a return period in years (else
            None). None: it is not defined there.
        at_return_periods: whether it has a value for each return period of the analysis, or one alone.
        requirements: what it needs of this machine.
    """

    name: str
    title: str
    help: str
    compute: Callable[[SampledYears, float | None], float | None]
    at_return_periods: bool = False
    requirements: tuple[Requirement, ...] = ()


def _problem(metric: MetricDeclaration, others: Mapping[str, MetricDeclaration]) -> str | None:
    if metric.name in set(Metric):
        return "this project has a metric of that name itself"
    return None if _NAME.fullmatch(metric.name) else "its name must be of capital letters, digits and '_'"


DECLARED_METRICS: Final = Registry("irp_pipeline.metrics", MetricDeclaration, "metric", _problem)
"""The declared metrics."""


def declared_losses(
    years: SampledYears, return_periods: Iterable[float], leave_out: Iterable[str] = ()
) -> Iterator[tuple[str, float | None, float]]:
    """Compute the declared metrics.

    Args:
        years: the losses of one perspective.
        return_periods: in years; those beyond the simulated years are left out.
        leave_out: names of metrics that are known already.

    Yields:
        The metric, the return period if it has one, and the amount.

    Raises:
        LossError: a metric cannot be computed, or gives what is no amount.
    """
    asked = [years_apart for years_apart in sorted(set(return_periods)) if years_apart <= years.periods]
    for metric in DECLARED_METRICS.declared().values():
        if metric.name in leave_out:
            continue
        for return_period in asked if metric.at_return_periods else [None]:
            try:
                loss = metric.compute(years, return_period)
                amount = None if loss is None else float(loss)
            except Exception as error:
                raise LossError(
                    f"The metric {metric.name} cannot be computed: {type(error).__name__}: {error}"
                ) from error
            if amount is not None and not (math.isfinite(amount) and amount >= 0):
                raise LossError(f"The metric {metric.name} gives {amount}, which is no amount")
            if amount is not None:
                yield metric.name, return_period, amount
