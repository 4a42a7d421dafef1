"""What the pages show of batches and their jobs.

Each statement finds its rows by an index, and returns no more than a page shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.running import fetch_all

_ERROR_CHARACTERS: Final = 400

_BATCHES: Final = """
    SELECT b.*, of_jobs.*
      FROM (SELECT b.id, b.batch_type, b.status, b.created_ts, b.submitted_ts, b.completed_ts
              FROM irp_configuration f JOIN irp_batch b ON b.configuration_id = f.id
             WHERE f.cycle_id = %s ORDER BY b.id DESC LIMIT %s) b,
           LATERAL (
            SELECT count(*) AS jobs,
                   count(*) FILTER (WHERE j.status = 'FINISHED') AS finished,
                   count(*) FILTER (WHERE j.status IN ('FAILED', 'ERROR', 'CANCELLED')) AS failed
              FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped) of_jobs
     ORDER BY b.id DESC
"""
# With OFFSET 0 the parameters are looked up for each job of the batch, one by one: a join of the two tables may read
# both from end to end if the batch has most of their rows.
_JOBS: Final = """
    SELECT j.id, j.status, j.skipped, j.submitted_ts, j.completed_ts, j.parent_job_id, j.work_job_id,
           left(j.error_message, %s) AS error_message, c.analysis, c.engine, c.overridden
      FROM irp_job j,
           LATERAL (
            SELECT job_configuration_data ->> 'name' AS analysis, job_configuration_data ->> 'engine' AS engine,
                   overridden
              FROM irp_job_configuration WHERE id = j.job_configuration_id OFFSET 0) c
     WHERE j.batch_id = %s AND j.id > %s
       AND (%s::text IS NULL OR j.status = %s)
       AND (%s::text IS NULL OR strpos(lower(c.analysis), lower(%s)) > 0)
     ORDER BY j.id LIMIT %s
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedBatch:
    """A batch in the list of its cycle; its jobs are counted without skipped ones."""

    id: int
    batch_type: str
    status: BatchStatus
    created_ts: datetime
    submitted_ts: datetime | None
    completed_ts: datetime | None
    jobs: int
    finished: int
    failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedJob:
    """A job in the list of its batch."""

    id: int
    status: JobStatus
    skipped: bool
    submitted_ts: datetime | None
    completed_ts: datetime | None
    parent_job_id: int | None
    work_job_id: int | None
    error_message: str | None
    analysis: str | None
    engine: str | None
    overridden: bool

    @property
    def seconds(self) -> float | None:
        """How long it took, if it has ended."""
        if self.submitted_ts is None or self.completed_ts is None:
            return None
        return (self.completed_ts - self.submitted_ts).total_seconds()


def newest_batches(cycle_id: int, limit: int) -> list[ListedBatch]:
    """Return the newest batches of a cycle, the newest first."""
    return [record_of(ListedBatch, row) for row in fetch_all(_BATCHES, (cycle_id, limit))]


def jobs_after(batch_id: int, limit: int, *, status: str = "", analysis: str = "", after: int = 0) -> list[ListedJob]:
    """Return jobs of a batch in the order they were made, including skipped ones.

    Args:
        batch_id: the batch.
        limit: how many at most.
        status: only those with this status; empty means all.
        analysis: only those whose analysis has this in its name, whatever the capitals; empty means all.
        after: only those with a greater id.
    """
    values = (_ERROR_CHARACTERS, batch_id, after, status or None, status, analysis or None, analysis, limit)
    return [record_of(ListedJob, row) for row in fetch_all(_JOBS, values)]
