"""The lease of a job: the columns of ``irp_job`` that say which worker has it, and how it ended there.

A worker that begins a job writes a token of its own into the job's row, which only one can do, and only once. Every
later write names the token: if it hits no row, somebody else has ended the job, and nothing more of it is recorded.
The heartbeat says that the worker is at work. Works in the schema of :mod:`irp_pipeline.postgres.context`.

Status and result of a job, which people see, are other columns; :mod:`irp_pipeline.helpers.handover` writes them from
what is told here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.postgres.context import get_current_schema
from irp_pipeline.postgres.running import execute_command, fetch_all, fetch_one
from irp_pipeline.process import HostProcess
from irp_pipeline.queue.tasks import LIVE_TASKS

LEASE_SECONDS: Final = 60
"""A worker whose heartbeat is older than this may be lost. It is, if the next minute brings no heartbeat either."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLease:
    """Which worker has a job.

    Attributes:
        token: fences every write of the worker.
        worker: the process.
        is_expired: whether its last heartbeat is older than :data:`LEASE_SECONDS`, by the server's clock.
        is_suspected: whether that was first seen the same time ago, with no heartbeat since.
    """

    token: str
    worker: HostProcess
    is_expired: bool
    is_suspected: bool

    def is_lost(self) -> bool:
        """Tell whether the worker is dead, or cut off for good."""
        return self.worker.is_gone() or (self.is_expired and self.is_suspected)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeasedJob:
    """A job as the database describes it to its engine.

    Attributes:
        job_key: its key.
        lease: which worker has begun it; None if none has.
        is_queued: whether it waits in the queue, or was just taken from it.
        is_cancelled: whether somebody asked for its end.
        doing: what its program says it is doing.
        engine_end: how it ended: ``phase``, ``message`` and ``result``; None if it has not.
    """

    job_key: str
    lease: JobLease | None
    is_queued: bool
    is_cancelled: bool
    doing: str | None
    engine_end: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunJob:
    """A job that a worker has begun.

    Attributes:
        request: what was handed over.
        parameters: those of the job, with the name of its engine.
        cycle_name: its cycle.
    """

    request: Mapping[str, Any]
    parameters: Mapping[str, Any]
    cycle_name: str


def leased_jobs(keys: Collection[str]) -> dict[str, LeasedJob]:
    """Return what is known of jobs, by key, in one statement; those that are not on record are left out."""
    rows = fetch_all(
        f"""
        SELECT j.job_key, q.job_key IS NOT NULL AS is_queued, j.cancel_ts IS NOT NULL AS is_cancelled,
               j.doing, j.engine_end, j.lease_token, j.host, j.pid, j.pid_started,
               j.heartbeat_ts < clock_timestamp() - make_interval(secs => %s) AS is_expired,
               coalesce(j.suspected_ts < clock_timestamp() - make_interval(secs => %s), false) AS is_suspected
          FROM irp_job j
          LEFT JOIN ({LIVE_TASKS}) q ON q.job_key = j.job_key
         WHERE j.job_key = ANY(%s)
        """,  # noqa: S608 - a constant
        (LEASE_SECONDS, LEASE_SECONDS, get_current_schema(), list(keys)),
    )
    return {row["job_key"]: _leased_job(row) for row in rows}


def _leased_job(row: dict[str, Any]) -> LeasedJob:
    token, host, pid, started = (row.pop(name) for name in ("lease_token", "host", "pid", "pid_started"))
    times = {name: row.pop(name) for name in ("is_expired", "is_suspected")}
    lease = None if token is None else JobLease(token=token, worker=HostProcess(host, pid, started), **times)
    return LeasedJob(**row, lease=lease)


def begin(key: str, token: str, worker: HostProcess) -> BegunJob | None:
    """Begin a job, unless it has begun, was cancelled or has ended. If the answer was lost, repeat it.

    Returns:
        The job; None if there is nothing to do.
    """
    row = fetch_one(
        """
        UPDATE irp_job j
           SET lease_token = %s, host = %s, pid = %s, pid_started = %s,
               begun_ts = clock_timestamp(), heartbeat_ts = clock_timestamp()
          FROM irp_job_configuration c, irp_batch b, irp_configuration f, irp_cycle y
         WHERE c.id = j.job_configuration_id AND b.id = j.batch_id AND f.id = b.configuration_id
           AND y.id = f.cycle_id
           AND j.job_key = %s AND (j.begun_ts IS NULL OR j.lease_token = %s)
           AND j.cancel_ts IS NULL AND j.engine_end IS NULL AND NOT j.skipped
           AND j.status IN ('SUBMITTED', 'QUEUED', 'PENDING', 'RUNNING')
        RETURNING j.request_data AS request, c.job_configuration_data AS parameters, y.cycle_name
        """,
        (token, worker.host, worker.pid, worker.started, key, token),
    )
    return None if row is None else BegunJob(**row)


def renew(tokens: Mapping[str, str], doing: Mapping[str, str | None]) -> set[str]:
    """Renew leases, and record what the jobs are doing.

    Args:
        tokens: the token of each job by its key.
        doing: what each is doing, by its key.

    Returns:
        The keys of those that were renewed; the others are lost.
    """
    rows = fetch_all(
        """
        UPDATE irp_job j
           SET heartbeat_ts = clock_timestamp(), suspected_ts = NULL, doing = w.doing
          FROM unnest(%s::text[], %s::text[], %s::text[]) AS w (key, token, doing)
         WHERE j.job_key = w.key AND j.lease_token = w.token AND j.engine_end IS NULL
        RETURNING j.job_key
        """,
        (list(tokens), list(tokens.values()), [doing.get(key) for key in tokens]),
    )
    return {row["job_key"] for row in rows}


def ask_to_end(keys: Collection[str]) -> None:
    """Ask whoever has jobs, or would begin them, to end them."""
    execute_command(
        """
        UPDATE irp_job SET cancel_ts = clock_timestamp()
         WHERE job_key = ANY(%s) AND cancel_ts IS NULL AND engine_end IS NULL
        """,
        (list(keys),),
    )


def asked_to_end(keys: Collection[str]) -> set[str]:
    """Return which jobs somebody has asked to end."""
    rows = fetch_all("SELECT job_key FROM irp_job WHERE job_key = ANY(%s) AND cancel_ts IS NOT NULL", (list(keys),))
    return {row["job_key"] for row in rows}


def report(key: str, token: str, end: Mapping[str, Any]) -> bool:
    """Record how a job ended, if the lease still holds; return whether it was recorded.

    Args:
        key: the job.
        token: that of its lease.
        end: ``phase``, ``message`` and ``result``.
    """
    return (
        execute_command(
            """
            UPDATE irp_job SET engine_end = %s, doing = NULL, suspected_ts = NULL
             WHERE job_key = %s AND lease_token = %s AND engine_end IS NULL
            """,
            (dict(end), key, token),
        )
        > 0
    )


def suspect(keys: Collection[str]) -> None:
    """Note that the heartbeats of jobs are too old, unless that is noted already."""
    execute_command(
        """
        UPDATE irp_job SET suspected_ts = clock_timestamp()
         WHERE job_key = ANY(%s) AND suspected_ts IS NULL AND engine_end IS NULL
           AND heartbeat_ts < clock_timestamp() - make_interval(secs => %s)
        """,
        (list(keys), LEASE_SECONDS),
    )
