"""Collecting what a report says from the records of a cycle. Nothing is changed here.

Here: reading the database, and putting its rows together for a reader. Not here: what is missing
(:mod:`irp_pipeline.report.completeness`), and what deserves a word although it is as it should be
(:mod:`irp_pipeline.report.notes`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from irp_pipeline.helpers.batch import current_batch
from irp_pipeline.helpers.configuration import get_active_configuration
from irp_pipeline.helpers.constants import JobStatus, StepStatus
from irp_pipeline.helpers.cycle import get_cycle_by_name
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.result import JobResult, ResultError, finished_jobs, get_results, previous_cycle_results
from irp_pipeline.losses import Figure
from irp_pipeline.postgres.running import fetch_all
from irp_pipeline.report.completeness import missing_figures, missing_steps, missing_work, state_of
from irp_pipeline.report.notes import notes
from irp_pipeline.report.records import (
    Change,
    JobFailure,
    PortfolioRecord,
    Report,
    ReportError,
    SourceRecord,
    StageRecord,
    StepRecord,
    Subject,
)

if TYPE_CHECKING:
    import pandas as pd

    from irp_pipeline.workbook import Workbook


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
    workbook = Workbook.from_json(configuration["configuration_data"]) if configuration else None
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
        *missing_steps(stages),
        *missing_work(workbook, batch, current),
        *([unreadable] if unreadable else []),
        *(missing_figures(workbook, finished, saved, jobs) if workbook and batch else ()),
    ]
    return Report(
        cycle=cycle["cycle_name"],
        schema=get_current_schema(),
        cycle_status=cycle["status"],
        written=datetime.now(UTC),
        state=state_of(stages, failures, batch, missing),
        missing=tuple(missing),
        notes=tuple(notes(workbook, finished, jobs)),
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
