"""Collecting the content of a report from the records of a cycle. Nothing is changed here.

Here: reading the database, and combining its rows for a reader. Not here: what is missing
(:mod:`irp_pipeline.report.completeness`), and notes on what is intended
(:mod:`irp_pipeline.report.notes`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from irp_pipeline.helpers.batch import Batch, find_current_batch
from irp_pipeline.helpers.configuration import find_active_configuration
from irp_pipeline.helpers.constants import JobStatus, StepStatus
from irp_pipeline.helpers.cycle import Cycle, find_cycle
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.portfolio_facts import facts_of
from irp_pipeline.helpers.record import record_of
from irp_pipeline.helpers.result import (
    JobResult,
    RecordedFigure,
    ResultError,
    finished_jobs,
    get_results,
    recorded_figures,
    what_ifs_of,
)
from irp_pipeline.helpers.sign_off import HELD, find_sign_off
from irp_pipeline.losses import Figure
from irp_pipeline.postgres.running import fetch_all
from irp_pipeline.report.attribution import collect_attribution
from irp_pipeline.report.comparison import collect_comparison
from irp_pipeline.report.completeness import (
    missing_figures,
    missing_later_batches,
    missing_steps,
    missing_work,
    state_of,
)
from irp_pipeline.report.curves import WholeCurves, whole_curves
from irp_pipeline.report.exposure import collect_exposure
from irp_pipeline.report.losses import collect_losses, errors_in_words
from irp_pipeline.report.notes import notes
from irp_pipeline.report.records import (
    JobFailure,
    JobRecord,
    PortfolioRecord,
    Report,
    ReportError,
    SourceRecord,
    StageRecord,
    StepRecord,
    Subject,
)
from irp_pipeline.report.segment_records import Segments
from irp_pipeline.report.segments import RETURN_PERIODS, collect_segments

if TYPE_CHECKING:
    import pandas as pd

    from irp_pipeline.workbook import Workbook


def collect_figures(cycle_name: str) -> tuple[tuple[Subject, ...], WholeCurves]:
    """Collect the analyses and groups of a cycle that have figures, and their whole curves.

    Args:
        cycle_name: a cycle of the schema of :mod:`irp_pipeline.helpers.db_context`.

    Raises:
        ReportError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    cycle = _cycle(cycle_name)
    configuration = find_active_configuration(cycle.id)
    batch = find_current_batch(cycle.id)
    saved = recorded_figures(get_results(batch.id)) if batch else []
    subjects = _subjects(configuration.workbook() if configuration else None, saved, _finished(batch)[0])
    return tuple(subjects), whole_curves(cycle.id, cycle.cycle_name, saved)


def collect(cycle_name: str) -> Report:
    """Collect what is recorded about a cycle, in the schema of :mod:`irp_pipeline.helpers.db_context`.

    For an unfinished or failed cycle, it collects what there is, such as the figures of finished jobs.

    Raises:
        ReportError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    cycle = _cycle(cycle_name)
    configuration = find_active_configuration(cycle.id)
    workbook = configuration.workbook() if configuration else None
    batch = find_current_batch(cycle.id)
    stages, outputs = _stages(cycle.id)
    jobs = _jobs(batch.id) if batch else []
    finished, unreadable = _finished(batch)
    saved = recorded_figures(get_results(batch.id)) if batch else []
    subjects = tuple(_subjects(workbook, saved, finished))
    curves = whole_curves(cycle.id, cycle.cycle_name, saved)
    figures = {subject.name: (subject.currency, subject.figures) for subject in subjects}
    provenance = {job.name: job.provenance for job in finished}
    current = [job for job in jobs if not job.skipped]
    failures = tuple(
        JobFailure(job.id, job.analysis, job.status, job.error)
        for job in current
        if job.status in {JobStatus.FAILED, JobStatus.ERROR, JobStatus.CANCELLED}
    )
    losses, outdated = collect_losses(cycle.id, saved)
    missing = [
        *errors_in_words(losses),
        *missing_steps(stages),
        *missing_work(workbook, batch, current),
        *missing_later_batches(cycle.id),
        *([unreadable] if unreadable else []),
        *(missing_figures(workbook, finished, saved, jobs) if workbook and batch else ()),
        *([outdated] if outdated else []),
    ]
    report = Report(
        cycle=cycle.cycle_name,
        schema=get_current_schema(),
        cycle_status=cycle.status,
        written=datetime.now(UTC),
        state=state_of(stages, failures, batch, missing, losses),
        missing=tuple(missing),
        notes=(
            *notes(workbook, finished, jobs),
            *([f"The whole curves are not drawn: {curves.missing}"] if curves.missing else []),
            *(["The results are not in files before they are approved"] if HELD in outputs else []),
        ),
        about=_about(workbook),
        workbook={
            "file": configuration.file_name,
            "folder": str(configuration.data_folder),
            "SHA-256": configuration.file_hash,
        }
        if configuration
        else {},
        stages=stages,
        portfolios=tuple(_portfolios(workbook, outputs)),
        subjects=subjects,
        segments=collect_segments(subjects, _of_segments(batch), finished) if batch else Segments(),
        sources=tuple(_sources(finished, jobs)),
        failures=failures,
        jobs=Counter(job.status for job in current),
        skipped_jobs=len(jobs) - len(current),
        comparison=None,
        curves=curves,
        what_ifs=what_ifs_of(batch.id, figures, provenance) if batch else (),
        exposure=collect_exposure(cycle),
        losses=losses,
        sign_off=find_sign_off(cycle.id),
    )
    if batch is None or not saved:
        return report
    headline = report.headline_subject
    compared = collect_comparison(cycle_name, batch.id, headline.name if headline is not None else None)
    attribution = collect_attribution(cycle, compared.before) if compared is not None else None
    return replace(report, comparison=compared, attribution=attribution)


def _stages(cycle_id: int) -> tuple[tuple[StageRecord, ...], dict[str, Any]]:
    """Return the stages with each step's newest run, and the combined output data of all steps."""
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
          -- A skipped run says which run did the work.
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
                None if row["status"] is None else StepStatus(row["status"]),
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


def _jobs(batch_id: int) -> list[JobRecord]:
    rows = fetch_all(
        """
        SELECT j.id, j.status, j.skipped OR c.skipped AS skipped, j.error_message AS error, c.override_reason,
               c.skipped_reason, c.job_configuration_data ->> 'name' AS analysis
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s ORDER BY j.id
        """,
        (batch_id,),
    )
    return [record_of(JobRecord, row) for row in rows]


def _finished(batch: Batch | None) -> tuple[list[JobResult], str | None]:
    """Return the finished jobs, or why they cannot be read."""
    if batch is None:
        return [], None
    try:
        return finished_jobs(batch.id), None
    except ResultError as error:
        return [], str(error)


def _of_segments(batch: Batch) -> pd.DataFrame:
    """Return the saved figures of segments that a report shows: few of all that there are."""
    return get_results(batch.id, segments=True, segment_return_periods=RETURN_PERIODS)


def _cycle(cycle_name: str) -> Cycle:
    cycle = find_cycle(cycle_name)
    if cycle is None:
        raise ReportError(f"There is no cycle {cycle_name!r} in schema {get_current_schema()!r}")
    return cycle


def _subjects(
    workbook: Workbook | None,
    saved: Sequence[RecordedFigure],
    finished: Sequence[JobResult],
) -> Iterator[Subject]:
    """Yield the analyses in the workbook's order, then the groups, each after the groups that it contains."""
    if workbook is None:
        return
    figures = _figures_by_name(saved)
    if not saved:
        figures = {job.name: (job.currency, [item for item in job.figures if item.is_whole]) for job in finished}
    jobs = {job.name: job for job in finished}
    groups = {group.name for group in workbook.groupings}
    analyses = [analysis.name for analysis in workbook.analyses]
    for name in [*analyses, *(group.name for group in workbook.groupings_in_order())]:
        if name not in figures:
            continue
        currency, found = figures[name]
        is_group = name in groups
        members = tuple(analysis.name for analysis in workbook.analyses_in(name)) if is_group else ()
        its_jobs = [jobs[member] for member in members or (name,) if member in jobs]
        yield Subject(
            name,
            is_group,
            currency,
            members,
            tuple(found),
            tuple(sorted({years for job in its_jobs for years in job.beyond})),
            its_jobs[0].periods if its_jobs else None,
        )


def _figures_by_name(recorded: Iterable[RecordedFigure]) -> dict[str, tuple[str, list[Figure]]]:
    """Return currency and figures of each analysis and group."""
    found: dict[str, tuple[str, list[Figure]]] = {}
    for item in recorded:
        if item.figure.is_whole:
            found.setdefault(item.analysis_name, (item.currency, []))[1].append(item.figure)
    return found


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
    """Yield the portfolios of the workbook, with what the stages Extract and Process recorded about each."""
    for portfolio in workbook.portfolios if workbook else ():
        facts = facts_of(portfolio.name, outputs)
        yield PortfolioRecord(
            portfolio.name,
            str(portfolio.source),
            facts.locations,
            facts.account_records,
            facts.insured_values,
            facts.warnings,
            facts.exposure_hash,
        )


def _sources(finished: Iterable[JobResult], jobs: Iterable[JobRecord]) -> Iterator[SourceRecord]:
    reasons = {job.id: job.override_reason for job in jobs}
    for job in finished:
        yield SourceRecord(
            job.name,
            job.job_id,
            job.job_key,
            str(job.analysis.get("portfolio", "")),
            reasons.get(job.job_id),
            job.provenance,
        )
