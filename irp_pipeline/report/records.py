"""What a report says: the records of a cycle, put together for a reader. Nothing is changed here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.batch import current_batch
from irp_pipeline.helpers.configuration import get_active_configuration
from irp_pipeline.helpers.constants import BatchStatus, JobStatus, StepStatus
from irp_pipeline.helpers.cycle import get_cycle_by_name
from irp_pipeline.helpers.database import fetch_all
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.result import (
    JobResult,
    ResultError,
    finished_jobs,
    get_results,
    missing_of_groups,
    previous_cycle_results,
    provenance_content,
)
from irp_pipeline.losses import CURVES, PERSPECTIVES, Figure

if TYPE_CHECKING:
    import pandas as pd

    from irp_pipeline.workbook import Workbook

_REPORT_STEP = ("Report", 2)
_LISTED_NAMES = 10
_ENDED_BADLY = {BatchStatus.FAILED, BatchStatus.ERROR, BatchStatus.CANCELLED}


class ReportError(IrpError):
    """A report cannot be made."""


class State(StrEnum):
    """Whether a cycle's figures are all there."""

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
    status: str | None
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
    """A portfolio: what arrived of it, and whether it is valid.

    Attributes:
        name: its name.
        source: where it comes from.
        locations: how many locations, of the control totals.
        accounts: how many account records were extracted.
        insured_values: total insured value by country and currency, of the control totals.
        warnings: how many findings against the OED standard were no errors.
        exposure_hash: SHA-256 of the OED files as the model read them.
    """

    name: str
    source: str
    locations: int | None
    accounts: int | None
    insured_values: tuple[tuple[str, str, float], ...]
    warnings: int | None
    exposure_hash: str | None


@dataclass(frozen=True)
class Change:
    """A figure of the previous cycle, and what became of it.

    Attributes:
        before: the amount then.
        share: the change as a share of it; None if it was zero.
    """

    before: float
    share: float | None


@dataclass(frozen=True)
class Subject:
    """An analysis or a group, with its figures.

    Attributes:
        name: its name.
        is_group: whether it is a group.
        currency: of the figures.
        members: the analyses of a group.
        figures: the figures.
        changes: what they were in the previous cycle, where they were.
    """

    name: str
    is_group: bool
    currency: str
    members: tuple[str, ...]
    figures: tuple[Figure, ...] = field(repr=False)
    changes: Mapping[Figure, Change] = field(repr=False)

    @property
    def is_stochastic(self) -> bool:
        """Whether it has averages and curves, rather than losses at given loss factors."""
        return any(figure.metric == "AAL" for figure in self.figures)

    @property
    def perspectives(self) -> tuple[str, ...]:
        """The perspectives that it has figures of."""
        there = {figure.perspective for figure in self.figures}
        return tuple(perspective for perspective in PERSPECTIVES if perspective in there)

    @property
    def return_periods(self) -> tuple[float, ...]:
        """The return periods of its curves, in years."""
        return tuple(sorted({figure.return_period for figure in self.figures if figure.return_period is not None}))

    @property
    def loss_factors(self) -> tuple[float, ...]:
        """The loss factors of its deterministic losses."""
        return tuple(sorted({figure.loss_factor for figure in self.figures if figure.loss_factor is not None}))

    def figure(
        self, perspective: str, metric: str, return_period: float | None = None, loss_factor: float | None = None
    ) -> Figure | None:
        """Return one figure, or None if there is no such."""
        wanted = (perspective, metric, return_period, loss_factor)
        for item in self.figures:
            if (item.perspective, item.metric, item.return_period, item.loss_factor) == wanted:
                return item
        return None


@dataclass(frozen=True)
class SourceRecord:
    """Where the figures of an analysis come from: the job, and what its risk engine says of it."""

    analysis: str
    job_id: int
    job_key: str
    portfolio: str
    override_reason: str | None
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class JobFailure:
    """A job that ended without a result."""

    job_id: int
    analysis: str
    status: str
    error: str | None


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes:
        cycle: the cycle's name.
        schema: the PostgreSQL schema that it is in.
        cycle_status: ACTIVE or ARCHIVED.
        written: when these records were read.
        state: whether the figures are all there.
        missing: what is missing, or went wrong, in words; empty if the state is COMPLETED.
        notes: what a reader should know although it is as somebody wished.
        about: the facts of the sheet Metadata, by the words to show.
        workbook: the workbook's file, folder and hash; empty if none is valid.
        stages: the stages that have begun.
        portfolios: the portfolios.
        subjects: analyses and groups that have figures; groups after the groups that they contain.
        sources: where the figures come from.
        failures: the jobs that ended without a result.
        jobs: how many unskipped jobs there are by status.
        skipped_jobs: how many were skipped, or replaced by another.
        previous_cycle: the cycle that figures are compared with.
    """

    cycle: str
    schema: str
    cycle_status: str
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
    jobs: Mapping[str, int]
    skipped_jobs: int
    previous_cycle: str | None

    def content(self) -> dict[str, Any]:
        """Return what the report says as plain data, without ids, times, places and hosts.

        What says the same has the same content, whenever and wherever it was computed.
        """
        return {
            "state": self.state.value,
            "missing": list(self.missing),
            "notes": list(self.notes),
            "about": dict(self.about),
            "portfolios": [asdict(portfolio) for portfolio in self.portfolios],
            "subjects": [
                {
                    "name": subject.name,
                    "currency": subject.currency,
                    "members": list(subject.members),
                    "figures": [
                        asdict(figure) | ({"before": change.before} if (change := subject.changes.get(figure)) else {})
                        for figure in subject.figures
                    ],
                }
                for subject in self.subjects
            ],
            "sources": [
                [source.analysis, source.portfolio, source.override_reason, provenance_content(source.provenance)]
                for source in self.sources
            ],
            "failures": [[failure.analysis, failure.status, failure.error] for failure in self.failures],
            "jobs": dict(self.jobs),
            "previous cycle": self.previous_cycle,
        }

    @property
    def headline_subject(self) -> Subject | None:
        """The subject that stands for the cycle: the last group, which contains most; else the only analysis."""
        stochastic = [subject for subject in self.subjects if subject.is_stochastic]
        groups = [subject for subject in stochastic if subject.is_group]
        if groups:
            return max(reversed(groups), key=lambda subject: len(subject.members))
        return stochastic[0] if len(stochastic) == 1 else None


def collect(cycle_name: str) -> Report:
    """Collect what is recorded of a cycle, in the schema of :mod:`irp_pipeline.helpers.db_context`.

    A cycle that is not finished, or failed, gives what there is: the figures of finished jobs before results are saved.

    Raises:
        ReportError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.workbook import Workbook

    cycle = get_cycle_by_name(cycle_name)
    if cycle is None:
        raise ReportError(f"There is no cycle {cycle_name!r} in schema {get_current_schema()!r}")
    configuration = get_active_configuration(cycle["id"])
    workbook = Workbook.model_validate(configuration["configuration_data"]) if configuration else None
    batch = current_batch(cycle["id"])
    stages, outputs = _stages(cycle["id"])
    jobs = _jobs(batch["id"]) if batch else []
    finished, unreadable = _finished(batch)
    saved = get_results(batch["id"]) if batch else None
    previous = previous_cycle_results(cycle["id"])
    subjects = _subjects(workbook, saved, finished, previous)
    current = [job for job in jobs if not job["skipped"]]
    failures = tuple(
        JobFailure(job["id"], job["name"], job["status"], job["error_message"])
        for job in current
        if job["status"] in {JobStatus.FAILED, JobStatus.ERROR, JobStatus.CANCELLED}
    )
    missing = [
        *_missing_steps(stages),
        *_missing_work(workbook, batch, current),
        *([unreadable] if unreadable else []),
        *(_missing_figures(workbook, finished, saved, jobs) if workbook and batch else ()),
    ]
    failed = (
        any(step.status == StepStatus.FAILED for stage in stages for step in stage.steps if not _is_report(stage, step))
        or bool(failures)
        or (batch is not None and batch["status"] in _ENDED_BADLY)
    )
    return Report(
        cycle=cycle["cycle_name"],
        schema=get_current_schema(),
        cycle_status=cycle["status"],
        written=datetime.now(UTC),
        state=State.FAILED if failed else State.UNFINISHED if missing else State.COMPLETED,
        missing=tuple(missing),
        notes=tuple(_notes(workbook, finished, jobs)),
        about=_about(workbook),
        workbook={
            "file": configuration["file_name"],
            "folder": configuration["data_folder"],
            "SHA-256": configuration["file_hash"],
        }
        if configuration
        else {},
        stages=stages,
        portfolios=tuple(_portfolios(workbook, outputs)),
        subjects=tuple(subjects),
        sources=tuple(_sources(finished, jobs)),
        failures=failures,
        jobs=Counter(job["status"] for job in current),
        skipped_jobs=len(jobs) - len(current),
        previous_cycle=None if previous.empty else str(previous["cycle_name"].iloc[0]),
    )


def _stages(cycle_id: int) -> tuple[tuple[StageRecord, ...], dict[str, Any]]:
    """Return the stages with each step's newest run, and all output data of the steps put together."""
    rows = fetch_all(
        """
        SELECT sg.stage_num, sg.stage_name, st.step_num, st.step_name, r.status, r.run_num, r.started_ts,
               r.started_by, r.error_message, r.output_data, coalesce(done.dagster_run_id, r.dagster_run_id) AS run_id,
               extract(epoch FROM coalesce(done.completed_ts, r.completed_ts)
                                  - coalesce(done.started_ts, r.started_ts))::float AS seconds
          FROM irp_stage sg
          JOIN irp_step st ON st.stage_id = sg.id
          LEFT JOIN LATERAL (SELECT * FROM irp_step_run
                              WHERE step_id = st.id ORDER BY run_num DESC LIMIT 1) r ON true
          -- A skipped run says which one did the work.
          LEFT JOIN irp_step_run done ON done.step_id = st.id AND done.run_num = r.work_run_num
                                     AND r.status = 'SKIPPED'
         WHERE sg.cycle_id = %s
         ORDER BY sg.stage_num, st.step_num
        """,
        (cycle_id,),
    )
    steps: defaultdict[tuple[int, str], list[StepRecord]] = defaultdict(list)
    outputs: dict[str, Any] = {}
    for row in rows:
        steps[row["stage_num"], row["stage_name"]].append(
            StepRecord(
                row["step_num"],
                row["step_name"],
                row["status"],
                row["run_num"],
                row["started_ts"],
                row["seconds"],
                row["started_by"],
                row["error_message"],
                row["run_id"],
            )
        )
        if isinstance(row["output_data"], dict) and row["status"] in {StepStatus.COMPLETED, StepStatus.SKIPPED}:
            outputs |= row["output_data"]
    return tuple(StageRecord(number, name, tuple(found)) for (number, name), found in steps.items()), outputs


def _jobs(batch_id: int) -> list[dict[str, Any]]:
    return fetch_all(
        """
        SELECT j.id, j.status, j.skipped OR c.skipped AS skipped, j.error_message, c.override_reason,
               c.skipped_reason, c.job_configuration_data ->> 'name' AS name
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s ORDER BY j.id
        """,
        (batch_id,),
    )


def _finished(batch: Mapping[str, Any] | None) -> tuple[list[JobResult], str | None]:
    """Return the finished jobs, or why they cannot be read."""
    if batch is None:
        return [], None
    try:
        return finished_jobs(batch["id"]), None
    except ResultError as error:
        return [], str(error)


def _subjects(
    workbook: Workbook | None, saved: pd.DataFrame | None, finished: Sequence[JobResult], previous: pd.DataFrame
) -> Iterator[Subject]:
    """Give the analyses in the workbook's order, then the groups, those within others first."""
    if workbook is None:
        return
    figures: dict[str, tuple[str, list[Figure]]] = {
        job.name: (job.currency, list(job.figures)) for job in finished if saved is None or saved.empty
    }
    if saved is not None:
        figures |= dict(_figures_by_name(saved))
    before = dict(_figures_by_name(previous))
    groups = {group.name for group in workbook.groupings}
    analyses = [analysis.name for analysis in workbook.analyses]
    for name in [*analyses, *(group.name for group in workbook.groupings_in_order())]:
        if name not in figures:
            continue
        currency, found = figures[name]
        currency_before, figures_before = before.get(name, ("", []))
        is_group = name in groups
        yield Subject(
            name,
            is_group,
            currency,
            tuple(analysis.name for analysis in workbook.analyses_in(name)) if is_group else (),
            tuple(found),
            _changes(found, figures_before) if currency == currency_before else {},
        )


def _figures_by_name(results: pd.DataFrame) -> Iterator[tuple[str, tuple[str, list[Figure]]]]:
    plain = results.astype(object).where(results.notna(), None)
    for name, rows in plain.groupby("analysis_name", sort=False):
        found = [
            Figure.from_json({str(column): value for column, value in row.items()}) for row in rows.to_dict("records")
        ]
        yield str(name), (str(rows["currency"].iloc[0]), found)


def _changes(figures: Iterable[Figure], before: Iterable[Figure]) -> dict[Figure, Change]:
    then = {(item.perspective, item.metric, item.return_period, item.loss_factor): item.loss for item in before}
    changes: dict[Figure, Change] = {}
    for item in figures:
        loss = then.get((item.perspective, item.metric, item.return_period, item.loss_factor))
        if loss is not None:
            changes[item] = Change(loss, item.loss / loss - 1 if loss else None)
    return changes


def _missing_steps(stages: Iterable[StageRecord]) -> Iterator[str]:
    for stage in stages:
        for step in stage.steps:
            if _is_report(stage, step):
                continue
            name = f"Step {stage.number}.{step.number} {step.name}"
            if step.status == StepStatus.FAILED:
                yield f"{name} failed: {first_line(step.error)}"
            elif step.status == StepStatus.ACTIVE:
                yield f"{name} is at work"
            elif step.status is None:
                yield f"{name} has not run"


def _is_report(stage: StageRecord, step: StepRecord) -> bool:
    """Tell whether a step is the one that writes the report, which says nothing of itself."""
    return (stage.name, step.number) == _REPORT_STEP


def _missing_work(
    workbook: Workbook | None, batch: Mapping[str, Any] | None, jobs: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    if workbook is None:
        yield "No workbook has been validated for this cycle"
    elif batch is None:
        yield "The jobs of the workbook's analyses have not been made"
    elif batch["status"] != BatchStatus.COMPLETED:
        count = Counter(str(job["status"]) for job in jobs)
        others = ", ".join(f"{number} {status}" for status, number in count.items() if status != JobStatus.FINISHED)
        yield (
            f"{count[JobStatus.FINISHED]} of {len(jobs)} jobs are finished"
            + (f" ({others})" if others else "")
            + f"; their batch is {batch['status']}"
        )


def _missing_figures(
    workbook: Workbook,
    finished: Sequence[JobResult],
    saved: pd.DataFrame | None,
    jobs: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    there = {job.name for job in finished}
    skipped = set(_skipped_analyses(workbook, jobs))
    if lacking := [item.name for item in workbook.analyses if item.name not in there | skipped]:
        more = f" and {len(lacking) - _LISTED_NAMES} more" if len(lacking) > _LISTED_NAMES else ""
        yield f"There are no figures of {', '.join(lacking[:_LISTED_NAMES])}{more}"
    if saved is None or saved.empty:
        yield "The results have not been saved" + (": what follows is from finished jobs" if finished else "")
        return
    of_jobs = {job_id for ids in saved["job_ids"] for job_id in ids}
    if late := [job.name for job in finished if job.job_id not in of_jobs]:
        yield f"The results were saved before these analyses were finished: {', '.join(late)}"
    present = {job.job_id for job in finished}
    outdated = [
        name for name, ids in zip(saved["analysis_name"], saved["job_ids"], strict=True) if not {*ids} <= present
    ]
    if outdated:
        yield f"These figures are of jobs that were replaced or skipped since: {', '.join(dict.fromkeys(outdated))}"
    for group, reason in missing_of_groups(workbook, there).items():
        members = {analysis.name for analysis in workbook.analyses_in(group)}
        if group not in set(saved["analysis_name"]) and not members & skipped:
            yield f"The group {group} has no figures" + (f": {reason}" if reason else "")


def _skipped_analyses(workbook: Workbook, jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the analyses that somebody decided to do without."""
    current = {job["name"] for job in jobs if not job["skipped"]}
    return [analysis.name for analysis in workbook.analyses if analysis.name not in current]


def _notes(
    workbook: Workbook | None, finished: Sequence[JobResult], jobs: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    if workbook is None or not jobs:
        return
    if skipped := _skipped_analyses(workbook, jobs):
        why = {job["name"]: job["skipped_reason"] for job in jobs if job["skipped_reason"]}
        named = (f"{name} ({why[name]})" if name in why else name for name in skipped)
        yield f"Skipped on purpose: {', '.join(named)}"
    for grouping in workbook.groupings_in_order():
        if without := [item.name for item in workbook.analyses_in(grouping.name) if item.name in skipped]:
            yield f"The group {grouping.name} has no figures, since it needs {', '.join(without)}"
        elif grouping.period_pairing is not None:
            yield f"The group {grouping.name} adds years up by their number, which takes its models to be independent"
    for result in finished:
        yield from (f"{result.name}: {note}" for note in _notes_of(result.provenance))
    for job in jobs:
        if job["override_reason"] and not job["skipped"]:
            yield f"{job['name']} ran with other parameters than the workbook's: {job['override_reason']}"


def _notes_of(provenance: Mapping[str, Any]) -> Iterator[str]:
    """Say what an engine's account of a job means for its figures."""
    unplaced = provenance.get("not_modelled")
    if isinstance(unplaced, Mapping) and unplaced:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in unplaced.items())
        totals = provenance.get("not_modelled_totals") or {}
        amount = (
            f", {totals['locations']:,} locations with an insured value of {totals['tiv']:,.2f} not at all"
            if totals.get("locations")
            else ""
        )
        yield f"the model has no losses of some locations, perils or coverages ({reasons}){amount}"
    if provenance.get("losses_by") == "means":
        yield "figures by means, without samples: IL and RI apply the terms to mean losses"
    if beyond := provenance.get("return_periods_beyond"):
        yield f"the simulated years do not support the return periods {', '.join(map(str, beyond))}"
    for what, words in (("not_defined", "not defined"), ("ignored", "not used")):
        for item in provenance.get(what) or ():
            yield f"{words}: {item}"


def _about(workbook: Workbook | None) -> dict[str, str]:
    if workbook is None:
        return {}
    metadata = workbook.metadata
    stated = {
        "Insurer": metadata.insurer,
        "Description": metadata.description,
        "Exposure of": metadata.exposure_date,
        "Prepared by": metadata.prepared_by,
        "Currency": metadata.currency,
    }
    return {words: str(value) for words, value in stated.items() if value}


def _portfolios(workbook: Workbook | None, outputs: Mapping[str, Any]) -> Iterator[PortfolioRecord]:
    """Read the figures that the stages Extract and Process record under ``<portfolio> <what>``."""
    for portfolio in workbook.portfolios if workbook else ():
        told = {
            key.removeprefix(f"{portfolio.name} "): value
            for key, value in outputs.items()
            if key.startswith(f"{portfolio.name} ")
        }
        values = [
            (*key.removeprefix("TIV ").rpartition(" ")[::2], float(value))
            for key, value in told.items()
            if key.startswith("TIV ")
        ]
        yield PortfolioRecord(
            portfolio.name,
            str(portfolio.source),
            told.get("locations"),
            told.get("account records"),
            tuple(sorted(values)),
            told.get("warnings"),
            told.get("exposure hash"),
        )


def _sources(finished: Iterable[JobResult], jobs: Iterable[Mapping[str, Any]]) -> Iterator[SourceRecord]:
    reasons = {job["id"]: job["override_reason"] for job in jobs}
    for job in finished:
        yield SourceRecord(
            job.name,
            job.job_id,
            job.job_key,
            str(job.analysis.get("portfolio", "")),
            reasons.get(job.job_id),
            job.provenance,
        )


def first_line(text: str | None) -> str:
    """Return the first line of an error message."""
    return (text or "without a message").strip().partition("\n")[0].rstrip()


def curve_figures(subject: Subject) -> Iterator[Figure]:
    """Give the points of a subject's curves."""
    return (figure for figure in subject.figures if figure.metric in CURVES)
