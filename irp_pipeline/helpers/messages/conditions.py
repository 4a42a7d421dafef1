"""What deserves a message although no run tells it: stuck jobs, and batches that ended badly.

Here: finding them in the current schema, by the leases of the jobs. Adopted jobs are at the team's vendor, and nobody
here hears of them. Not here: ending them, which is that of
:mod:`irp_pipeline.helpers.ending`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from irp_pipeline import settings
from irp_pipeline.helpers.constants import BatchStatus
from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.running import fetch_all

SILENT_SECONDS: Final = 300
"""A job at work whose worker was not heard of for so long is stuck. Usually it has been closed as lost before that."""
WAITING_SECONDS: Final = 3600
"""A batch is stuck whose jobs wait for so long while no job of the schema is at work."""
LONG_SHARE: Final = 0.5
"""A job is stuck that has been at work for this share of the time that it may take, ``IRP_JOB_HOURS``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StuckJob:
    """A job that is not heard of, or has been at work for long.

    Attributes:
        job_id, batch_id, cycle_name: the job, and where it belongs.
        attempt: tells one beginning of the job from another.
        analysis: the name of its analysis, if it has one.
        host: where it works; None if the engine does not say.
        is_silent: whether its worker is not heard of; else it takes long.
        seconds: the age of its last heartbeat; or how long it has been at work.
    """

    job_id: int
    batch_id: int
    cycle_name: str
    attempt: str
    analysis: str | None
    host: str | None
    is_silent: bool
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitingBatch:
    """A batch whose jobs wait while none is at work.

    Attributes:
        batch_id, cycle_name: the batch and its cycle.
        jobs: how many wait.
        seconds: how long the first of them has waited.
    """

    batch_id: int
    cycle_name: str
    jobs: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BadEnd:
    """A batch that ended as FAILED or ERROR.

    Attributes:
        batch_id, cycle_name: the batch and its cycle.
        status: FAILED or ERROR.
        completed_ts: when it ended.
        jobs: how many of its jobs are FAILED or ERROR.
        error: the error of the first of them.
    """

    batch_id: int
    cycle_name: str
    status: BatchStatus
    completed_ts: datetime
    jobs: int
    error: str | None


def stuck_jobs() -> list[StuckJob]:
    """Return the jobs under way whose worker is not heard of, or which have been at work for long."""
    rows = fetch_all(
        """
        SELECT * FROM (
            SELECT j.id AS job_id, b.id AS batch_id, cy.cycle_name, j.host,
                   coalesce(j.lease_token, to_char(j.submitted_ts, 'YYYYMMDDHH24MISSUS'), '') AS attempt,
                   jc.job_configuration_data ->> 'name' AS analysis, silent.is_silent,
                   extract(epoch FROM clock_timestamp() - CASE WHEN silent.is_silent THEN j.heartbeat_ts
                                                          ELSE coalesce(j.begun_ts, j.submitted_ts) END)::float8
                   AS seconds
              FROM irp_batch b
              JOIN irp_configuration cf ON cf.id = b.configuration_id
              JOIN irp_cycle cy ON cy.id = cf.cycle_id
              JOIN irp_job j ON j.batch_id = b.id AND NOT j.skipped AND j.work_job_id IS NULL AND j.adopted IS NULL
              JOIN irp_job_configuration jc ON jc.id = j.job_configuration_id
             CROSS JOIN LATERAL (SELECT coalesce(
                       j.heartbeat_ts < clock_timestamp() - make_interval(secs => %s), false) AS is_silent) silent
             WHERE b.status IN ('INITIATED', 'ACTIVE') AND j.engine_end IS NULL
               AND j.status NOT IN ('FINISHED', 'FAILED', 'CANCELLED', 'ERROR')
               AND (j.begun_ts IS NOT NULL OR j.status = 'RUNNING')
        ) at_work
         WHERE is_silent OR seconds > %s
         ORDER BY job_id
        """,
        (SILENT_SECONDS, LONG_SHARE * settings.job_seconds()),
    )
    return [record_of(StuckJob, row) for row in rows]


def waiting_batches() -> list[WaitingBatch]:
    """Return the batches whose jobs have waited for long, if no job of the schema is at work or ended meanwhile."""
    rows = fetch_all(
        """
        WITH under_way AS (
            SELECT b.id AS batch_id, cy.cycle_name, j.submitted_ts, j.completed_ts,
                   j.status IN ('SUBMITTED', 'QUEUED', 'PENDING') AND j.begun_ts IS NULL AS waits,
                   j.status = 'RUNNING' OR (j.begun_ts IS NOT NULL AND j.engine_end IS NULL
                       AND j.status NOT IN ('FINISHED', 'FAILED', 'CANCELLED', 'ERROR')) AS works
              FROM irp_batch b
              JOIN irp_configuration cf ON cf.id = b.configuration_id
              JOIN irp_cycle cy ON cy.id = cf.cycle_id
              JOIN irp_job j ON j.batch_id = b.id AND NOT j.skipped AND j.work_job_id IS NULL AND j.adopted IS NULL
             WHERE b.status IN ('INITIATED', 'ACTIVE')
        )
        SELECT batch_id, cycle_name, count(*) AS jobs,
               extract(epoch FROM clock_timestamp() - min(submitted_ts))::float8 AS seconds
          FROM under_way
         WHERE waits AND NOT EXISTS (
                   SELECT FROM under_way
                    WHERE works OR completed_ts > clock_timestamp() - make_interval(secs => %s))
         GROUP BY batch_id, cycle_name
        HAVING min(submitted_ts) < clock_timestamp() - make_interval(secs => %s)
         ORDER BY batch_id
        """,
        (WAITING_SECONDS, WAITING_SECONDS),
    )
    return [record_of(WaitingBatch, row) for row in rows]


def batches_ended_badly(since: datetime) -> list[BadEnd]:
    """Return the batches that have ended as FAILED or ERROR since a time, the oldest end first."""
    rows = fetch_all(
        """
        SELECT b.id AS batch_id, cy.cycle_name, b.status, b.completed_ts, f.jobs, f.error
          FROM irp_batch b
          JOIN irp_configuration cf ON cf.id = b.configuration_id
          JOIN irp_cycle cy ON cy.id = cf.cycle_id
         CROSS JOIN LATERAL (SELECT count(*) AS jobs, (array_agg(j.error_message ORDER BY j.id))[1] AS error
                               FROM irp_job j
                              WHERE j.batch_id = b.id AND NOT j.skipped AND j.status IN ('FAILED', 'ERROR')) f
         WHERE b.status IN ('FAILED', 'ERROR') AND b.completed_ts > %s
         ORDER BY b.completed_ts, b.id
        """,
        (since,),
    )
    return [record_of(BadEnd, {**row, "status": BatchStatus(row["status"])}) for row in rows]
