"""Columns that several engines can declare: the queue of its jobs, segments, and those of losses by simulated year.

For each perspective, an engine that has the latter writes the period losses of the Open Results Data standard (SPLT)
to a result file ``<perspective>_plt_sample``, and ``periods``, ``samples`` and ``occurrence_hash`` to its provenance.
Then its analyses can be part of groups, and metrics are computed from them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from irp_pipeline.columns import FIELDS, TEXT, WHOLE_NUMBER, WHOLE_NUMBERS, YES_NO, Column, ascending, no_repeats
from irp_pipeline.columns.kinds import joined
from irp_pipeline.exposure.segment_fields import MOST_SEGMENTS, checked_combinations, segment_problems
from irp_pipeline.queue.names import DEFAULT_QUEUE, QueueError, check_queue
from irp_pipeline.vocabulary import OedTable

USUAL_RETURN_PERIODS: Final = (2, 5, 10, 25, 50, 100, 200, 250, 500, 1000)
"""The default return periods of a stochastic analysis, in years."""


def _checked_samples(value: int) -> int:
    if not 0 <= value <= 100_000:
        raise ValueError(f"{value} must be between 0 and 100,000")
    return value


def _checked_return_period(value: int) -> int:
    if not 1 <= value <= 10_000_000:
        raise ValueError(f"{value} must be between 1 and 10,000,000 years")
    return value


def _checked_queue(value: str) -> str:
    try:
        return check_queue(value)
    except QueueError as error:
        raise ValueError(str(error)) from None


Queue = Annotated[
    Annotated[str, AfterValidator(_checked_queue)] | None,
    Column(
        f"The queue that the job waits in, for a machine that has what it needs: `irp worker --queue NAME` takes it "
        f"there. Empty means {DEFAULT_QUEUE}. Losses do not depend on it.",
        TEXT,
        width=12,
        of_machines=True,
    ),
]
Samples = Annotated[
    Annotated[int, AfterValidator(_checked_samples)] | None,
    Column(
        "Number of samples per event. 0: no sampling, but figures by means; IL and RI then apply the terms to mean "
        "losses, and may differ much from sampled ones.",
        WHOLE_NUMBER,
        needed=True,
        width=12,
    ),
]
ReturnPeriods = Annotated[
    tuple[Annotated[int, AfterValidator(_checked_return_period)], ...],
    AfterValidator(no_repeats),
    AfterValidator(ascending),
    Column(
        f"Return periods of the loss curves, in years; empty means {joined(USUAL_RETURN_PERIODS)}.",
        WHOLE_NUMBERS,
        width=26,
        of_results=True,
    ),
]
EventLosses = Annotated[
    bool,
    Column(
        "Whether to keep the losses of each event; empty means no.",
        YES_NO,
        options=("yes", "no"),
        width=14,
        of_results=True,
    ),
]
PeriodLosses = Annotated[
    bool,
    Column(
        "Whether to keep the losses of each simulated year, which groups need; empty means yes.",
        YES_NO,
        options=("yes", "no"),
        width=14,
        of_results=True,
    ),
]

Segments = Annotated[
    tuple[str, ...],
    AfterValidator(checked_combinations),
    Column(
        "Parts of the portfolio that get figures of their own: fields of the location or the account table, such as "
        "`CountryCode; CountryCode+OccupancyCode`. At most "
        f"{MOST_SEGMENTS:,} segments in all. IL and RI of a segment are its share of the whole's terms.",
        FIELDS,
        width=30,
        of_results=True,
        only_if_filled=True,
    ),
]


def figures_of_segment(analysis: Mapping[str, Any]) -> int:
    """Return how many figures each segment of an analysis has in each perspective."""
    factors = analysis.get("loss_factor")
    return len(factors) if factors else 2 + 2 * len(analysis.get("return_periods") or ())


def segment_checks(analysis: Mapping[str, Any], tables: Mapping[OedTable, Path]) -> Iterator[tuple[str, str]]:
    """Say why the portfolio of an analysis cannot be parted into its segments, as column and message."""
    problems = segment_problems(
        analysis.get("segments") or (),
        analysis.get("perspectives") or (),
        tables,
        figures=figures_of_segment(analysis),
    )
    yield from (("segments", message) for message in problems)


def with_usual_losses(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an analysis by simulated year, with the usual return periods and period losses if empty."""
    filled = dict(fields)
    filled["return_periods"] = filled.get("return_periods") or USUAL_RETURN_PERIODS
    filled.setdefault("period_losses", True)
    return filled
