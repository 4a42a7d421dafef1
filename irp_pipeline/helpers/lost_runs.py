"""The recorded leases of runs at work; detecting dead workers, and closing their runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.record import record_or_none
from irp_pipeline.postgres.running import execute_command, fetch_all, fetch_one
from irp_pipeline.process import HostProcess

LEASE_SECONDS: Final = 60
"""A tracked run whose heartbeat is older than this has lost its lease."""

LEASE_COLUMNS: Final = """
    r.id AS run_id, r.run_num, r.host, r.pid, r.pid_started, r.heartbeat_ts, r.lease_token,
    r.heartbeat_ts < clock_timestamp() - make_interval(secs => %s) AS expired
"""
"""The columns of a run ``r`` for :func:`lease_of`; the placeholder is for :data:`LEASE_SECONDS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldLease:
    """The lease of a tracked run that is ACTIVE.

    Attributes:
        run_id: the run.
        run_num: its number within the step.
        token: fences every write of the run's worker.
        worker: the process that works.
        heartbeat_ts: its last heartbeat.
        expired: whether that is longer ago than :data:`LEASE_SECONDS`, by the server's clock.
    """

    run_id: int
    run_num: int
    token: str
    worker: HostProcess
    heartbeat_ts: datetime
    expired: bool

    def is_lost(self) -> bool:
        """Tell whether the worker is dead."""
        return self.expired or self.worker.is_gone()

    def close(self) -> bool:
        """Record the run as FAILED, "worker lost", unless it has ended or another worker has its lease.

        Returns:
            Whether it was recorded.
        """
        return (
            execute_command(
                """
                UPDATE irp_step_run
                   SET status = 'FAILED', completed_ts = clock_timestamp(), lease_token = NULL,
                       error_message = format(
                           'worker lost: process %s on host %s ended without a report; its last heartbeat was at %s',
                           pid, host, heartbeat_ts)
                 WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
                """,
                (self.run_id, self.token),
            )
            > 0
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LostRun:
    """A run that was closed because its worker is dead.

    Attributes:
        step_name: its step.
        lease: the lease that it held.
    """

    step_name: str
    lease: HeldLease


@dataclass(frozen=True, kw_only=True, slots=True)
class LatestRun:
    """The latest step run of a Dagster run.

    Attributes:
        id: the step run's id.
        status: its status.
        completed_ts: when it ended, if it has.
        lost: whether it was closed because its worker was lost.
    """

    id: int
    status: StepStatus
    completed_ts: datetime | None
    lost: bool


def lease_of(row: Mapping[str, Any]) -> HeldLease:
    """Return the lease of a row with :data:`LEASE_COLUMNS`; other columns are ignored."""
    return HeldLease(
        run_id=row["run_id"],
        run_num=row["run_num"],
        token=str(row["lease_token"]),
        worker=HostProcess(row["host"], row["pid"], row["pid_started"]),
        heartbeat_ts=row["heartbeat_ts"],
        expired=row["expired"],
    )


def close_lost_runs() -> list[LostRun]:
    """In the current schema, record every tracked run whose worker is dead as FAILED.

    Returns:
        The runs that were closed.
    """
    rows = fetch_all(
        f"""
        SELECT {LEASE_COLUMNS}, st.step_name
          FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
         WHERE r.tracked AND r.status = 'ACTIVE'
        """,  # noqa: S608
        (LEASE_SECONDS,),
    )
    active = [LostRun(step_name=row["step_name"], lease=lease_of(row)) for row in rows]
    return [run for run in active if run.lease.is_lost() and run.lease.close()]


def latest_run_of_dagster_run(dagster_run_id: str) -> LatestRun | None:
    """Return the latest step run of a Dagster run in the current schema, or None."""
    row = fetch_one(
        """
        SELECT id, status, completed_ts, status = 'FAILED' AND error_message LIKE 'worker lost%' AS lost
          FROM irp_step_run WHERE dagster_run_id = %s
         ORDER BY started_ts DESC, id DESC LIMIT 1
        """,
        (dagster_run_id,),
    )
    return record_or_none(LatestRun, row)
