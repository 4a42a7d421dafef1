"""The content of a report: the records of a cycle as typed values.

Here: the values, and what follows from them alone. Not here: reading them
(:mod:`irp_pipeline.report.collecting`), whether they are complete (:mod:`irp_pipeline.report.completeness`), and how
they are formatted (:mod:`irp_pipeline.report.display`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import CycleStatus, JobStatus, StepStatus
from irp_pipeline.helpers.portfolio_facts import InsuredValue
from irp_pipeline.helpers.result import WhatIf, provenance_content
from irp_pipeline.helpers.sanity import RecordedCheck
from irp_pipeline.helpers.sign_off import SignOff
from irp_pipeline.losses import Figure
from irp_pipeline.report.comparison import ComparisonSection
from irp_pipeline.report.curves import WholeCurves
from irp_pipeline.report.segment_records import Segments
from irp_pipeline.vocabulary import CURVES, Metric, Perspective

if TYPE_CHECKING:
    from irp_pipeline.report.attribution_section import AttributionSection
    from irp_pipeline.report.exposure_section import ExposureSection


class ReportError(IrpError):
    """A report cannot be made."""


class State(StrEnum):
    """Whether a cycle's figures are complete, and none of them is found to be wrong."""

    COMPLETED = "COMPLETED"
    UNFINISHED = "UNFINISHED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class StepRecord:
    """A step and its newest run.

    Attributes:
        number: number of the step in its stage.
        name: its name.
        status: of the newest run; None if it never ran.
        run: number of that run.
        started: when it began.
        seconds: how long the run that did the work took; None while it is at work.
        started_by: who started it.
        error: why it failed.
        dagster_run_id: the Dagster run that it belonged to.
    """

    number: int
    name: str
    status: StepStatus | None
    run: int | None = None
    started: datetime | None = None
    seconds: float | None = None
    started_by: str | None = None
    error: str | None = None
    dagster_run_id: str | None = None


@dataclass(frozen=True)
class StageRecord:
    """A stage with its steps."""

    number: int
    name: str
    steps: tuple[StepRecord, ...]


@dataclass(frozen=True)
class PortfolioRecord:
    """A portfolio: what was extracted, and whether it is valid.

    Attributes:
        name: its name.
        source: where it comes from.
        locations: the number of locations, from the control totals.
        accounts: how many account records were extracted.
        insured_values: total insured value by country and currency, from the control totals.
        warnings: how many findings against the OED standard were not errors.
        exposure_hash: SHA-256 of the OED files as the model read them.
    """

    name: str
    source: str
    locations: int | None
    accounts: int | None
    insured_values: tuple[InsuredValue, ...]
    warnings: int | None
    exposure_hash: str | None

    def content(self) -> dict[str, Any]:
        """Return it as plain data."""
        values = [[value.country, value.currency, value.amount] for value in self.insured_values]
        return asdict(self) | {"insured_values": values}


@dataclass(frozen=True)
class Subject:
    """An analysis or a group, with its figures.

    Attributes:
        name: its name.
        is_group: whether it is a group.
        currency: of the figures.
        members: the analyses of a group.
        figures: the figures.
        beyond: the return periods, in years, that were asked for but have no figure.
        simulated_years: how many there are, if the engine says it; figures of longer return periods would need more.
    """

    name: str
    is_group: bool
    currency: str
    members: tuple[str, ...]
    figures: tuple[Figure, ...] = field(repr=False)
    beyond: tuple[float, ...] = ()
    simulated_years: int | None = None

    @property
    def is_stochastic(self) -> bool:
        """Whether it has averages and curves, rather than losses at given loss factors."""
        return any(figure.metric is Metric.AAL for figure in self.figures)

    @property
    def perspectives(self) -> tuple[Perspective, ...]:
        """The perspectives for which it has figures."""
        return tuple(Perspective.among(figure.perspective for figure in self.figures))

    @property
    def return_periods(self) -> tuple[float, ...]:
        """The return periods of its curves, in years."""
        return tuple(
            sorted({figure.return_period for figure in curve_figures(self) if figure.return_period is not None})
        )

    @property
    def declared_metrics(self) -> tuple[tuple[str, float | None], ...]:
        """The metrics that distributions declare, each with its return periods in years, or None if it has none."""
        others = {(item.metric, item.return_period) for item in self.figures if item.metric not in set(Metric)}
        return tuple(sorted(others, key=lambda item: (item[0], item[1] or 0)))

    @property
    def loss_factors(self) -> tuple[float, ...]:
        """The loss factors of its deterministic losses."""
        return tuple(sorted({figure.loss_factor for figure in self.figures if figure.loss_factor is not None}))

    def figure(
        self,
        perspective: Perspective,
        metric: str,
        return_period: float | None = None,
        loss_factor: float | None = None,
    ) -> Figure | None:
        """Return one figure, or None if there is no such figure."""
        wanted = (perspective, metric, return_period, loss_factor)
        for item in self.figures:
            if (item.perspective, item.metric, item.return_period, item.loss_factor) == wanted:
                return item
        return None


@dataclass(frozen=True)
class SourceRecord:
    """Where the figures of an analysis come from: the job, and its provenance from the risk engine."""

    analysis: str
    job_id: int
    job_key: str
    portfolio: str
    override_reason: str | None
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """A job of the cycle's batch.

    Attributes:
        id: the job's id.
        analysis: the name of its analysis.
        status: its status.
        skipped: whether the batch does not count it.
        error: why it failed.
        override_reason: why a person changed the workbook's parameters.
        skipped_reason: why a person skipped it.
    """

    id: int
    analysis: str
    status: JobStatus
    skipped: bool
    error: str | None
    override_reason: str | None
    skipped_reason: str | None


@dataclass(frozen=True)
class JobFailure:
    """A job that ended without a result."""

    job_id: int
    analysis: str
    status: JobStatus
    error: str | None


@dataclass(frozen=True)
class Report:
    """Everything that a report says.

    Attributes:
        cycle: the cycle's name.
        schema: the PostgreSQL schema that it is in.
        cycle_status: ACTIVE or ARCHIVED.
        written: when these records were read.
        state: whether the figures are complete.
        missing: what is missing, or went wrong, in words; empty if the state is COMPLETED.
        notes: what a reader should know although it is intended.
        about: the facts of the sheet Metadata, by the label to show.
        workbook: the workbook's file, folder and hash; empty if none is valid.
        stages: the stages that have begun.
        portfolios: the portfolios.
        subjects: analyses and groups that have figures; groups after the groups that they contain.
        sources: where the figures come from.
        failures: the jobs that ended without a result.
        jobs: how many unskipped jobs there are by status.
        skipped_jobs: how many were skipped, or replaced by another.
        comparison: what changed since the cycle before; None if there is none with figures.
        curves: the whole curves, and how sure the figures are.
        what_ifs: the analyses that are shown beside a base.
        exposure: the exposure at a glance; None if its step has not run.
        segments: the figures of segments.
        attribution: what the changes since the cycle before consist of; None if that was not computed.
        losses: what the check of the figures found; None if they have not been checked.
        sign_off: whether the figures are approved.
    """

    cycle: str
    schema: str
    cycle_status: CycleStatus
    written: datetime
    state: State
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    about: Mapping[str, str]
    workbook: Mapping[str, str]
    stages: tuple[StageRecord, ...]
    portfolios: tuple[PortfolioRecord, ...]
    subjects: tuple[Subject, ...]
    sources: tuple[SourceRecord, ...]
    failures: tuple[JobFailure, ...]
    jobs: Mapping[JobStatus, int]
    skipped_jobs: int
    comparison: ComparisonSection | None
    curves: WholeCurves = field(default_factory=WholeCurves)
    what_ifs: tuple[WhatIf, ...] = ()
    exposure: ExposureSection | None = None
    segments: Segments = field(default_factory=Segments)
    attribution: AttributionSection | None = None
    losses: RecordedCheck | None = None
    sign_off: SignOff | None = None

    def content(self) -> dict[str, Any]:
        """Return the content of the report as plain data, without ids, times, paths and hosts.

        Equal reports have the same content, whenever and wherever they were computed.
        """
        return {
            "state": self.state.value,
            "missing": list(self.missing),
            "notes": list(self.notes),
            "about": dict(self.about),
            "portfolios": [portfolio.content() for portfolio in self.portfolios],
            "subjects": [
                {
                    "name": subject.name,
                    "currency": subject.currency,
                    "members": list(subject.members),
                    "beyond": list(subject.beyond),
                    "figures": [asdict(figure) for figure in subject.figures],
                }
                for subject in self.subjects
            ],
            "sources": [
                [source.analysis, source.portfolio, source.override_reason, provenance_content(source.provenance)]
                for source in self.sources
            ],
            "failures": [[failure.analysis, failure.status, failure.error] for failure in self.failures],
            "jobs": dict(self.jobs),
            "comparison": None if self.comparison is None else self.comparison.content(),
            "whole curves": self.curves.content(),
            **({"what-ifs": [item.content() for item in self.what_ifs]} if self.what_ifs else {}),
            "exposure": self.exposure.content() if self.exposure else None,
            **({"segments": self.segments.content()} if self.segments.tables else {}),
            **({"attribution": self.attribution.content()} if self.attribution else {}),
            **({"losses": self.losses.as_json()} if self.losses is not None else {}),
            # Of one that nobody has decided, the hash is that of what is above.
            **({"sign-off": str(self.sign_off)} if self.sign_off is not None and self.sign_off.decision else {}),
        }

    @property
    def headline_subject(self) -> Subject | None:
        """The main subject of the cycle."""
        return main_subject(self.subjects)


def main_subject(subjects: Iterable[Subject]) -> Subject | None:
    """Return the last of the groups that contain the most; without groups the only analysis, or None."""
    stochastic = [subject for subject in subjects if subject.is_stochastic]
    groups = [subject for subject in stochastic if subject.is_group]
    if groups:
        return max(reversed(groups), key=lambda subject: len(subject.members))
    return stochastic[0] if len(stochastic) == 1 else None


def first_line(text: str | None) -> str:
    """Return the first line of an error message."""
    return (text or "without a message").strip().partition("\n")[0].rstrip()


def curve_figures(subject: Subject) -> Iterator[Figure]:
    """Yield the points of a subject's curves."""
    return (figure for figure in subject.figures if figure.metric in CURVES)
