"""Finding jobs: one job, those of a cycle, and a job with its predecessors and successors.

Here also: what is read along with the record of a job. :mod:`irp_pipeline.helpers.job` changes jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from irp_pipeline.engines import EngineError
from irp_pipeline.helpers.batch_of_jobs import engine_of
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_record import JOB_COLUMNS, JOBS, Job
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.helpers.record import as_dict, record_of
from irp_pipeline.postgres.running import fetch_all, fetch_one

_JOB_AND_ABOVE = f"""
    {JOBS}
    JOIN irp_configuration cf ON cf.id = b.configuration_id
    JOIN irp_cycle cy ON cy.id = cf.cycle_id
    LEFT JOIN irp_job w ON w.id = j.work_job_id
"""


_READ: Final = (
    *("id", "batch_id", "job_configuration_id", "parent_job_id", "job_key", "status", "skipped"),
    *("created_ts", "submitted_ts", "completed_ts", "error_message", "work_job_id", "recompute"),
    *("job_configuration_data", "overridden", "override_reason", "workbook_data", "request_data", "result_data"),
    *("batch_type", "configuration_id", "cycle_name", "folder"),
)
"""What :func:`read_job` returns."""
_IN_HISTORY: Final = _READ[: _READ.index("workbook_data")]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobInCycle(Job):
    """A job, and where it belongs.

    Attributes:
        configuration_id: the configuration that asks for it.
        cycle_name: its cycle.
        work_key: the engine's key of the job that did the work: its own, or that of ``work_job_id``.
        result_data: what came back; also None if it was not asked for, since it is long.
    """

    configuration_id: int
    cycle_name: str
    work_key: str
    result_data: Mapping[str, Any] | None = None

    @property
    def folder(self) -> Path | None:
        """Where the engine keeps its files; None if there is no such engine."""
        try:
            return engine_of(self.cycle_name, self.job_configuration_data).folder(self.work_key)
        except EngineError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackingEntry:
    """A line of the tracking log of a job: its new status, why, and when."""

    status: JobStatus
    message: str | None
    logged_ts: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class JobHistory:
    """A job, and the entries of its tracking log, the oldest first."""

    job: Job
    tracking: tuple[TrackingEntry, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as :func:`job_history` does."""
        return as_dict(self.job, _IN_HISTORY) | {"tracking": [as_dict(entry) for entry in self.tracking]}


def read_job(job_id: int) -> dict[str, Any] | None:
    """Return a job, or None.

    Returns:
        id, batch_id, job_configuration_id, parent_job_id, job_key, status, skipped, created_ts, submitted_ts,
        completed_ts, error_message, work_job_id (the job whose result this one has, since their requests are the same),
        recompute, job_configuration_data, overridden, override_reason, workbook_data (the workbook's parameters, if a
        person changed them), request_data (what the engine was given), result_data (what came back), batch_type,
        configuration_id, cycle_name, folder (where the engine keeps its files; None if there is no such engine).
    """
    job = find_job(job_id, with_data=True)
    return None if job is None else job_as_dict(job)


def job_as_dict(job: JobInCycle) -> dict[str, Any]:
    """Return a job as :func:`read_job` does; it must have been found with its data."""
    return as_dict(job, _READ)


def find_job(job_id: int, *, with_data: bool = False) -> JobInCycle | None:
    """Return a job, or None.

    Args:
        job_id: the job.
        with_data: whether to read also what its engine was given, and what came back.
    """
    row = fetch_one(
        f"""
        SELECT {JOB_COLUMNS}, b.configuration_id, cy.cycle_name, coalesce(w.job_key, j.job_key) AS work_key
               {", j.request_data, j.result_data" if with_data else ""}
          FROM {_JOB_AND_ABOVE}
         WHERE j.id = %s
        """,  # noqa: S608
        (job_id,),
    )
    return None if row is None else record_of(JobInCycle, row)


def list_jobs(cycle_id: int, status: str | None = None) -> list[dict[str, Any]]:
    """Return the jobs of all batches of a cycle in the order they were made, including skipped ones.

    Args:
        cycle_id: the cycle; an unknown one has no jobs.
        status: only jobs with this status.

    Returns:
        id, batch_id, job_configuration_id, parent_job_id, job_key, status, skipped, created_ts, submitted_ts,
        completed_ts, error_message, work_job_id, recompute, job_configuration_data, overridden, override_reason,
        batch_type.
    """
    return [as_dict(job) for job in jobs_of_cycle(cycle_id, status)]


def jobs_of_cycle(cycle_id: int, status: str | None = None) -> list[Job]:
    """Return the jobs of all batches of a cycle in the order they were made, including skipped ones.

    Args:
        cycle_id: the cycle; an unknown one has no jobs.
        status: only jobs with this status.
    """
    rows = fetch_all(
        f"""
        SELECT {JOB_COLUMNS}
          FROM {JOBS}
          JOIN irp_configuration cf ON cf.id = b.configuration_id
         WHERE cf.cycle_id = %s AND (%s::text IS NULL OR j.status = %s)
         ORDER BY j.id
        """,  # noqa: S608
        (cycle_id, status, status),
    )
    return [record_of(Job, row) for row in rows]


def job_history(job_id: int) -> list[dict[str, Any]]:
    """Return a job with the jobs that it replaced and those that replaced it, the oldest first.

    Returns:
        The columns of :func:`list_jobs` without ``batch_type``, and ``tracking``: the tracking log of the job, the
        oldest entry first, as dicts of status, message, logged_ts.

    Raises:
        JobError: there is no such job.
    """
    return [history.as_dict() for history in history_of_job(job_id)]


def history_of_job(job_id: int) -> list[JobHistory]:
    """Return a job with the jobs that it replaced and those that replaced it, the oldest first.

    Raises:
        JobError: there is no such job.
    """
    rows = fetch_all(
        f"""
        WITH RECURSIVE earlier AS (
            SELECT id, parent_job_id FROM irp_job WHERE id = %s
            UNION ALL
            SELECT p.id, p.parent_job_id FROM irp_job p JOIN earlier e ON p.id = e.parent_job_id
        ), chain AS (
            SELECT id FROM earlier WHERE parent_job_id IS NULL
            UNION ALL
            SELECT n.id FROM irp_job n JOIN chain ch ON n.parent_job_id = ch.id
        )
        SELECT {JOB_COLUMNS}
          FROM {JOBS}
          JOIN chain ON chain.id = j.id
         ORDER BY j.id
        """,  # noqa: S608
        (job_id,),
    )
    if not rows:
        raise no_job(job_id)
    jobs = [record_of(Job, row) for row in rows]
    tracking: defaultdict[int, list[TrackingEntry]] = defaultdict(list)
    for entry in fetch_all(
        "SELECT job_id, status, message, logged_ts FROM irp_job_tracking_log WHERE job_id = ANY(%s) ORDER BY id",
        ([job.id for job in jobs],),
    ):
        tracking[entry.pop("job_id")].append(record_of(TrackingEntry, entry))
    return [JobHistory(job=job, tracking=tuple(tracking[job.id])) for job in jobs]


def no_job(job_id: int) -> JobError:
    """Return the error for a job that does not exist."""
    return JobError(f"There is no job with the id {job_id} in schema {get_current_schema()!r}")
