"""Which jobs of a batch are no longer up to date, and why; resubmitting them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from irp_pipeline.helpers.batch_of_jobs import BatchOfJobs, lock_batch, require_open_batch
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.handover import replace_jobs, requests_of
from irp_pipeline.helpers.job_record import JOB_COLUMNS, JOBS, FinishedJob, Job
from irp_pipeline.helpers.job_request import JobError, places
from irp_pipeline.helpers.job_result import changed_file
from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.running import fetch_all

_ENDED_WITHOUT_RESULT = "('FAILED', 'ERROR', 'CANCELLED')"
_WITHOUT_RESULT = frozenset({JobStatus.FAILED, JobStatus.ERROR, JobStatus.CANCELLED})


def outdated_jobs(batch_id: int) -> dict[int, str]:
    """Return which jobs :func:`renew_batch` would resubmit, and why.

    Returns:
        The reason by the id of the unskipped job, in order: it ended without a result; its request would now be
        different; or a file of its result is missing on this machine or differs.

    Raises:
        BatchError: there is no such batch.
        JobError: the request of a job that was handed over cannot be made now, so that it cannot be compared.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    batch = require_open_batch(batch_id)
    return {job.id: reason for job, reason in _outdated(batch, _requests_now(batch), _changed_files(batch))}


def renew_batch(batch_id: int, *, everything: bool = False, failed: bool = True) -> list[int]:
    """Resubmit the jobs of a batch that need it: see :func:`outdated_jobs`. Those under way are ended first.

    Args:
        batch_id: the batch.
        everything: resubmit all of its jobs that were handed over, so that they are computed again.
        failed: resubmit those that ended without a result.

    Returns:
        The ids of the new jobs, which are INITIATED: :func:`submit_batch` hands them over. The batch is ACTIVE again if
        there are any.

    Raises:
        BatchError: there is no such batch.
        JobError: as :func:`outdated_jobs`; or the batch has ended and another of its configuration and type is under
            way. Nothing is changed then.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached to end a job.
        DatabaseError: the database refuses or is away.
    """
    open_batch = require_open_batch(batch_id)
    # Hashing may take long, so no lock is held here.
    requests, changed = _requests_now(open_batch), _changed_files(open_batch)
    with lock_batch(batch_id) as batch:
        outdated = [
            (job, reason)
            for job, reason in _outdated(batch, requests, changed, everything=everything)
            if failed or job.status not in _WITHOUT_RESULT
        ]
        reasons = {job.id: reason for job, reason in outdated}
        return replace_jobs(batch, reasons, [job for job, _ in outdated], recompute=everything)


def _requests_now(batch: BatchOfJobs) -> dict[int, dict[str, Any]]:
    """Return the requests that the jobs of a batch would have now, for jobs that may have a result."""
    jobs = fetch_all(
        f"""
        SELECT j.id, c.job_configuration_data
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s AND NOT j.skipped AND j.status <> 'INITIATED' AND j.status NOT IN {_ENDED_WITHOUT_RESULT}
         ORDER BY j.id
        """,  # noqa: S608
        (batch.id,),
    )
    requests, refused = requests_of(batch, {job["id"]: job["job_configuration_data"] for job in jobs})
    for job_id, error in refused.items():
        raise JobError(f"It cannot be decided whether the job {job_id} is up to date. {error}") from error
    return requests


def _changed_files(batch: BatchOfJobs) -> dict[int, str]:
    """Say which result file is missing on this machine or differs, for each finished job with such a file."""
    rows = fetch_all(
        """
        SELECT j.id, coalesce(w.job_key, j.job_key) AS work_key, j.result_data, c.job_configuration_data
          FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
          LEFT JOIN irp_job w ON w.id = j.work_job_id
         WHERE j.batch_id = %s AND NOT j.skipped AND j.status = 'FINISHED'
        """,
        (batch.id,),
    )
    changed = {row["id"]: changed_file(FinishedJob(**row), batch.cycle_name) for row in rows}
    return {job_id: what for job_id, what in changed.items() if what is not None}


def _outdated(
    batch: BatchOfJobs,
    requests: Mapping[int, dict[str, Any]],
    changed: Mapping[int, str],
    *,
    everything: bool = False,
) -> list[tuple[Job, str]]:
    """Return the jobs that are no longer up to date, each with the reason."""
    rows = {
        "rows": [
            {"id": job_id, "request": requests.get(job_id), "changed": changed.get(job_id)}
            for job_id in {*requests, *changed}
        ]
    }
    found = fetch_all(
        f"""
        SELECT * FROM (
            SELECT {JOB_COLUMNS},
                   CASE WHEN j.status IN {_ENDED_WITHOUT_RESULT} THEN 'it ended without a result'
                        WHEN j.status = 'INITIATED' THEN NULL
                        WHEN now.request IS NOT NULL
                             AND j.request_data - {places()} IS DISTINCT FROM now.request - {places()}
                        THEN 'its request changed'
                        WHEN j.status = 'FINISHED' AND now.changed IS NOT NULL THEN now.changed
                        WHEN %s THEN 'it was asked to run again'
                    END AS reason
              FROM {JOBS}
              LEFT JOIN jsonb_to_recordset(%s -> 'rows') AS now (id bigint, request jsonb, changed text)
                   ON now.id = j.id
             WHERE j.batch_id = %s AND NOT j.skipped) judged
         WHERE reason IS NOT NULL
         ORDER BY id
        """,  # noqa: S608
        (everything, rows, batch.id),
    )
    reasons = [row.pop("reason") for row in found]
    return [(record_of(Job, row), reason) for row, reason in zip(found, reasons, strict=True)]
