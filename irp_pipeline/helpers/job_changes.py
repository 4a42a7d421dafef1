"""Changes of a job's status, with the reason; each is recorded with a row in the job's tracking log.

:mod:`irp_pipeline.helpers.handover` asks the engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.engines import JobPhase, JobState, check_result
from irp_pipeline.helpers.batch_of_jobs import BatchOfJobs
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.job_record import Job
from irp_pipeline.postgres.parameters import storable_text
from irp_pipeline.postgres.running import execute_command

LONGEST_MESSAGE: Final = 2000
_STATUS_OF_PHASE: Final = {
    JobPhase.QUEUED: JobStatus.QUEUED,
    JobPhase.RUNNING: JobStatus.RUNNING,
    JobPhase.FINISHED: JobStatus.FINISHED,
    JobPhase.FAILED: JobStatus.FAILED,
    JobPhase.CANCELLED: JobStatus.CANCELLED,
}

BEING_CANCELLED: Final = frozenset({JobStatus.CANCEL_REQUESTED, JobStatus.CANCELLING})


@dataclass(frozen=True)
class Change:
    """A job's change from the status in which it was seen to another."""

    job_id: int
    seen: JobStatus
    status: JobStatus
    message: str | None = None
    result: Mapping[str, Any] | None = None
    work_job_id: int | None = None


def change_of(job: Job, state: JobState) -> Change | None:
    """Return the change that an engine's answer makes; None if it changes nothing."""
    status = job.status
    if status in BEING_CANCELLED and is_at_work(state):
        return None
    if state.phase is JobPhase.UNKNOWN:
        return Change(job.id, status, JobStatus.CANCELLED) if status in BEING_CANCELLED else None
    if state.phase is JobPhase.FINISHED:
        fault = check_result(state.result, currency=job.job_configuration_data.get("currency"))
        if fault is not None:
            return Change(job.id, status, JobStatus.FAILED, f"What the engine reported is not a result: {fault}")
    new = _STATUS_OF_PHASE[state.phase]
    return None if new is status else Change(job.id, status, new, state.message, state.result)


def refusal(job: Job, reason: str) -> Change:
    return Change(job.id, job.status, JobStatus.ERROR, reason)


def is_at_work(state: JobState) -> bool:
    return state.phase in {JobPhase.QUEUED, JobPhase.RUNNING}


def record(batch: BatchOfJobs, changes: Iterable[Change]) -> None:
    """Record changes, each with a row in the tracking log, if the job still has the status that was seen."""
    rows = [
        {
            "id": change.job_id,
            "seen": change.seen,
            "status": change.status,
            "message": change.message and storable_text(change.message, LONGEST_MESSAGE),
            "result": change.result if change.status is JobStatus.FINISHED else None,
            "work_job_id": change.work_job_id,
        }
        for change in changes
        if change.status != change.seen
    ]
    execute_command(
        """
        WITH change AS (
            SELECT *
              FROM jsonb_to_recordset(%s -> 'rows')
                   AS c (id bigint, seen text, status text, message text, result jsonb, work_job_id bigint)
        ), changed AS (
            UPDATE irp_job j
               SET status = c.status,
                   result_data = c.result,
                   work_job_id = c.work_job_id,
                   error_message = CASE WHEN c.status IN ('FAILED', 'ERROR') THEN c.message END,
                   submitted_ts = CASE WHEN c.status = 'SUBMITTED' OR c.work_job_id IS NOT NULL
                                       THEN coalesce(j.submitted_ts, clock_timestamp()) ELSE j.submitted_ts END,
                   completed_ts = CASE WHEN c.status IN ('FINISHED', 'FAILED', 'CANCELLED', 'ERROR')
                                       THEN clock_timestamp() END
              FROM change c
             WHERE j.batch_id = %s AND j.id = c.id AND j.status = c.seen AND NOT j.skipped
               AND j.status NOT IN ('FINISHED', 'FAILED', 'CANCELLED', 'ERROR')
            RETURNING j.id, j.status, c.message
        )
        INSERT INTO irp_job_tracking_log (job_id, status, message) SELECT id, status, message FROM changed ORDER BY id
        """,
        ({"rows": rows}, batch.id),
    )
