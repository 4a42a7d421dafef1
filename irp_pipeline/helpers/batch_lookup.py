"""Finding batches: one batch, those of a cycle, the current one of a cycle, and the jobs of a batch.

:mod:`irp_pipeline.helpers.batch` makes and changes batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from irp_pipeline.helpers.configuration import find_active_configuration
from irp_pipeline.helpers.constants import BatchStatus, BatchType, JobStatus
from irp_pipeline.helpers.job_record import JOB_COLUMNS, JOBS, Job
from irp_pipeline.helpers.record import INTERNAL, as_dict, record_of
from irp_pipeline.helpers.wanted import chain_types, declared_batch_type, wanted_hash, wanted_of
from irp_pipeline.postgres.running import fetch_all, fetch_one

_SELECT = """
    SELECT b.id, b.configuration_id, b.step_id, b.batch_type, b.status, b.created_ts, b.submitted_ts, b.completed_ts,
           (SELECT count(*) FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped) AS jobs,
           (SELECT coalesce(jsonb_object_agg(status, n), '{}')
              FROM (SELECT j.status, count(*) AS n FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped
                     GROUP BY j.status) AS of_status) AS job_counts,
           b.wanted_hash, cy.cycle_name
      FROM irp_batch b
      JOIN irp_configuration cf ON cf.id = b.configuration_id
      JOIN irp_cycle cy ON cy.id = cf.cycle_id
"""
_OF_BATCH = (
    *("id", "batch_id", "job_configuration_id", "parent_job_id", "status", "skipped", "created_ts", "submitted_ts"),
    *("completed_ts", "error_message", "work_job_id", "job_configuration_data"),
)
"""The fields of a job that :func:`get_batch_jobs` returns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """All the jobs of one type that one configuration asks for.

    Attributes:
        id: the batch's id.
        configuration_id: the configuration.
        step_id: the step that made it.
        batch_type: what its jobs do.
        status: its status.
        created_ts: when it was made.
        submitted_ts: when its first jobs were handed over, if any were.
        completed_ts: when it ended, if it has.
        jobs: how many it has, without skipped ones.
        job_counts: how many of them have each status.
        wanted_hash: of the jobs that it was made for; None if it was made before this hash was recorded.
        cycle_name: its cycle.
    """

    id: int
    configuration_id: int
    step_id: int
    batch_type: str
    status: BatchStatus
    created_ts: datetime
    submitted_ts: datetime | None
    completed_ts: datetime | None
    jobs: int
    job_counts: Mapping[JobStatus, int]
    wanted_hash: str | None = field(metadata=INTERNAL)
    cycle_name: str = field(metadata=INTERNAL)


def newest_batch(cycle_id: int, batch_type: str) -> Batch | None:
    """Return the newest batch of a type that a cycle has, whatever the workbook asks for now."""
    row = fetch_one(
        f"{_SELECT} WHERE cf.cycle_id = %s AND b.batch_type = %s ORDER BY b.id DESC LIMIT 1", (cycle_id, batch_type)
    )
    return None if row is None else _batch(row)


def _batch(row: Mapping[str, Any]) -> Batch:
    counts = {JobStatus(status): number for status, number in row["job_counts"].items()}
    return record_of(Batch, {**row, "job_counts": counts})


def read_batch(batch_id: int) -> dict[str, Any] | None:
    """Return a batch, or None.

    Returns:
        id, configuration_id, step_id, batch_type, status, created_ts, submitted_ts, completed_ts, jobs (how many it
        has) and job_counts (how many by status), without skipped ones.
    """
    return as_dict(find_batch(batch_id))


def find_batch(batch_id: int) -> Batch | None:
    """Return a batch, or None."""
    row = fetch_one(f"{_SELECT} WHERE b.id = %s", (batch_id,))
    return None if row is None else _batch(row)


def current_batch(cycle_id: int, batch_type: str = BatchType.ANALYSIS) -> dict[str, Any] | None:
    """Return the current batch of a cycle: its newest of the type, if it has the jobs that the workbook asks for.

    Returns:
        The columns of :func:`read_batch`; None if the workbook asks for other jobs than those of the newest batch, or
        there is none.
    """
    return as_dict(find_current_batch(cycle_id, batch_type))


def find_current_batch(cycle_id: int, batch_type: str = BatchType.ANALYSIS) -> Batch | None:
    """Return the batch that :func:`current_batch` describes, or None."""
    configuration = find_active_configuration(cycle_id)
    newest = None if configuration is None else newest_batch(cycle_id, batch_type)
    if configuration is None or newest is None:
        return None
    return newest if asks_for(newest, configuration.id, configuration.data) else None


@dataclass(frozen=True)
class Link:
    """A batch of a chain.

    Attributes:
        batch: the batch.
        before: its predecessor; None if it is the first, or nobody knows the first one. The predecessor of a batch
            whose type comes after one without jobs is that one's predecessor.
        may_begin: whether it can be handed over: it is the first, or all batches before it are complete.
    """

    batch: Batch
    before: Batch | None
    may_begin: bool

    @property
    def is_first(self) -> bool:
        """Whether it begins a chain."""
        return declared_batch_type(self.batch.batch_type).after is None


def chain_of_cycle(cycle_id: int) -> list[Link]:
    """Return the current batches that the pipeline runs for a cycle, each after its predecessor.

    The first is that of the analyses. A type without jobs for the workbook has no batch.
    """
    last: dict[str, Link] = {}
    links = []
    for declaration in chain_types():
        batch = find_current_batch(cycle_id, declaration.name)
        before = last.get(declaration.after or "")
        if batch is not None:
            is_after_complete = before is not None and before.may_begin and before.batch.status is BatchStatus.COMPLETED
            link = Link(batch, None if before is None else before.batch, declaration.after is None or is_after_complete)
            links.append(link)
            last[declaration.name] = link
        elif before is not None:
            last[declaration.name] = before
    return links


def may_begin(cycle_id: int, batch_type: str) -> bool:
    """Tell whether the current batch of a type can be handed over; one without a predecessor always can."""
    if declared_batch_type(batch_type).after is None:
        return True
    return any(link.may_begin for link in chain_of_cycle(cycle_id) if link.batch.batch_type == batch_type)


def list_batches(cycle_id: int) -> list[dict[str, Any]]:
    """Return the batches of a cycle, the oldest first; the columns of :func:`read_batch`."""
    return [as_dict(batch) for batch in batches_of_cycle(cycle_id)]


def batches_of_cycle(cycle_id: int) -> list[Batch]:
    """Return the batches of a cycle, the oldest first."""
    return [_batch(row) for row in fetch_all(f"{_SELECT} WHERE cf.cycle_id = %s ORDER BY b.id", (cycle_id,))]


def get_batch_jobs(batch_id: int) -> list[dict[str, Any]]:
    """Return the jobs of a batch in the order they were made, including skipped ones.

    Returns:
        id, batch_id, job_configuration_id, parent_job_id, status, skipped, created_ts, submitted_ts, completed_ts,
        error_message, work_job_id, job_configuration_data.
    """
    return [batch_job_as_dict(job) for job in jobs_of_batch(batch_id)]


def batch_job_as_dict(job: Job) -> dict[str, Any]:
    """Return a job as :func:`get_batch_jobs` does."""
    return as_dict(job, _OF_BATCH)


def jobs_of_batch(batch_id: int) -> list[Job]:
    """Return the jobs of a batch in the order they were made, including skipped ones."""
    rows = fetch_all(
        f"SELECT {JOB_COLUMNS} FROM {JOBS} WHERE j.batch_id = %s ORDER BY j.id",  # noqa: S608
        (batch_id,),
    )
    return [record_of(Job, row) for row in rows]


def batches_under_way() -> list[Batch]:
    """Return the ACTIVE batches of open cycles, if their configuration is still the active one of the cycle.

    Adopted ones are not among them: their jobs are at no engine of this package.
    """
    rows = fetch_all(
        f"""
        {_SELECT}
         WHERE b.status = 'ACTIVE' AND cf.status = 'ACTIVE' AND cy.status = 'ACTIVE' AND b.adopted IS NULL
         ORDER BY b.id
        """
    )
    return [_batch(row) for row in rows]


def asks_for(batch: Batch, configuration_id: int, configuration: Mapping[str, Any]) -> bool:
    """Tell whether a batch was made for the jobs that a configuration asks for."""
    if batch.wanted_hash is None:  # made before this hash was recorded
        return batch.configuration_id == configuration_id
    return batch.wanted_hash == wanted_hash(wanted_of(batch.batch_type, configuration))
