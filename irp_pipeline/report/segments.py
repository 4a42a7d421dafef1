"""Collecting the section on segments: where the losses come from, by OED fields.

Here: its values, from recorded figures and what jobs say about their segments. Not here: what it consists of
(:mod:`irp_pipeline.report.segment_records`), how it is shown (``segments.html.jinja``), and the change of a segment
from another cycle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from irp_pipeline.helpers.result import JobResult, recorded_figures
from irp_pipeline.losses import Figure
from irp_pipeline.losses.segments import joined
from irp_pipeline.report.records import Subject
from irp_pipeline.report.segment_records import SegmentLoss, SegmentRow, Segments, SegmentTable
from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS: Final = 20
"""The segments of a table: those with the largest losses."""
_MOST_SECTIONS: Final = 40
RETURN_PERIODS: Final = (100, 200, 250)
"""In years: the first of these that there is has a column."""

Values = tuple[str, ...]
Insured = tuple[float | None, int | None]
"""Insured value and number of locations, as far as they are known."""


def collect_segments(subjects: Sequence[Subject], saved: pd.DataFrame, finished: Sequence[JobResult]) -> Segments:
    """Collect the segments of a cycle.

    Args:
        subjects: its analyses and groups, with the figures of whole portfolios.
        saved: the recorded figures, as :func:`~irp_pipeline.helpers.result.get_results` returns those of segments; of
            return periods, only :data:`RETURN_PERIODS` are needed.
        finished: its finished jobs.
    """
    figures: defaultdict[str, defaultdict[Values, list[Figure]]] = defaultdict(lambda: defaultdict(list))
    for found in recorded_figures(saved):
        if not found.figure.is_whole:
            figures[found.analysis_name][found.figure.segment_by].append(found.figure)
    jobs = {job.name: job for job in finished}
    tables = [
        _table(subject, by, of_segments, [jobs[name] for name in subject.members or (subject.name,) if name in jobs])
        for subject in (*[of for of in subjects if of.is_group][::-1], *[of for of in subjects if not of.is_group])
        for by, of_segments in figures.get(subject.name, {}).items()
    ]
    return Segments(tuple(tables[:_MOST_SECTIONS]), _rules(jobs.values()), max(0, len(tables) - _MOST_SECTIONS))


def _table(subject: Subject, by: Values, figures: Sequence[Figure], jobs: Sequence[JobResult]) -> SegmentTable:
    metric = Metric.AAL if subject.is_stochastic else Metric.LOSS
    factor = None if subject.is_stochastic else subject.loss_factors[-1]
    period = next((float(years) for years in RETURN_PERIODS if years in subject.return_periods), None)
    insured = dict(_insured(by, jobs))
    total = sum(tiv for tiv, _ in insured.values() if tiv is not None)
    losses: defaultdict[Values, dict[Perspective, SegmentLoss]] = defaultdict(dict)
    at_period = {
        (of.segment, of.perspective): of.loss for of in figures if (of.metric, of.return_period) == (Metric.OEP, period)
    }
    for of in figures:
        if of.metric == metric and of.loss_factor == factor:
            whole = subject.figure(of.perspective, metric, None, factor)
            share = of.loss / whole.loss if whole is not None and whole.loss else None
            losses[of.segment][of.perspective] = SegmentLoss(
                of.loss, share, at_period.get((of.segment, of.perspective))
            )
    perspectives = tuple(Perspective.among(of.perspective for of in figures))
    rows = []
    for values in {**losses, **insured}:
        tiv, locations = insured.get(values, (None, None))
        share = tiv / total if tiv is not None and total else None
        rows.append(SegmentRow(joined(values), tiv, share, locations, losses.get(values, {})))

    def place(row: SegmentRow) -> tuple[float, float, str]:
        of = row.losses.get(perspectives[-1])
        return (-1.0 if of is None else of.mean), row.tiv or 0.0, row.name

    rows.sort(key=place, reverse=True)
    return SegmentTable(
        subject.name,
        subject.is_group,
        subject.currency,
        joined(by),
        perspectives,
        metric,
        factor,
        period if at_period else None,
        tuple(rows[:_MOST_ROWS]),
        len(rows[_MOST_ROWS:]),
    )


def _insured(by: Values, jobs: Iterable[JobResult]) -> Iterator[tuple[Values, Insured]]:
    """Yield insured value and number of locations of each segment; a portfolio of several analyses counts once."""
    of_portfolios: dict[object, Mapping[Values, Insured]] = {}
    for job in jobs:
        for segmentation in job.segmentations:
            if segmentation.by == by:
                portfolio = job.provenance.get("exposure_hash") or job.name
                found = {of.values: (of.tiv, of.locations) for of in segmentation.segments}
                of_portfolios.setdefault(portfolio, found)
    for values in {values: None for found in of_portfolios.values() for values in found}:
        parts = [found[values] for found in of_portfolios.values() if values in found]
        tivs = [tiv for tiv, _ in parts if tiv is not None]
        counts = [count for _, count in parts if count is not None]
        yield (
            values,
            (sum(tivs) if len(tivs) == len(parts) else None, sum(counts) if len(counts) == len(parts) else None),
        )


def _rules(jobs: Iterable[JobResult]) -> str:
    """Say by which rules losses are allocated to segments: those that jobs state, or that they do not state any."""
    stated = {
        tuple(rules.items()) if isinstance(rules := job.provenance.get("allocation_rules"), Mapping) else None
        for job in jobs
        if job.segmentations
    }
    told = [", ".join(f"{rule} for {name}" for name, rule in rules) for rules in sorted(filter(None, stated))]
    if None in stated:
        told.append("the rule of the model")
    return " or ".join(told)
