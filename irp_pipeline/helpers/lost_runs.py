"""Tracked runs whose worker is gone: telling that they are, and closing them."""

from __future__ import annotations

from typing import Any, Final

from irp_pipeline.postgres.running import execute_command, fetch_all, fetch_one
from irp_pipeline.worker import Worker

LEASE_SECONDS: Final = 60
"""A tracked run whose heartbeat is older than this has lost its lease."""


def is_lost(active: dict[str, Any]) -> bool:
    """Tell whether the worker of an ACTIVE tracked run is dead.

    Args:
        active: ``host``, ``pid`` and ``pid_started`` of the run, and ``expired``: whether its heartbeat is older than
            :data:`LEASE_SECONDS` by the server's clock.
    """
    return active["expired"] or Worker(active["host"], active["pid"], active["pid_started"]).is_gone()


def close_lost_runs() -> list[dict[str, Any]]:
    """Record every tracked run as FAILED whose worker is dead, in the current schema.

    Returns:
        The runs that were closed: id, step_id, run_num, step_name, host, pid, dagster_run_id.
    """
    active = fetch_all(
        """
        SELECT r.id, r.step_id, r.run_num, st.step_name, r.host, r.pid, r.pid_started, r.lease_token, r.dagster_run_id,
               r.heartbeat_ts < clock_timestamp() - make_interval(secs => %s) AS expired
          FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
         WHERE r.tracked AND r.status = 'ACTIVE'
        """,
        (LEASE_SECONDS,),
    )
    shown = ("id", "step_id", "run_num", "step_name", "host", "pid", "dagster_run_id")
    return [
        {name: run[name] for name in shown}
        for run in active
        if is_lost(run) and close_lost_run(run["id"], run["lease_token"])
    ]


def latest_run_of_dagster_run(dagster_run_id: str) -> dict[str, Any] | None:
    """Return the step run that a Dagster run began last, in the current schema, or None if it began none.

    Returns:
        id, step_id, run_num, status, completed_ts, and lost: whether it was closed because its worker was lost.
    """
    return fetch_one(
        """
        SELECT id, step_id, run_num, status, completed_ts,
               status = 'FAILED' AND error_message LIKE 'worker lost%' AS lost
          FROM irp_step_run WHERE dagster_run_id = %s
         ORDER BY started_ts DESC, id DESC LIMIT 1
        """,
        (dagster_run_id,),
    )


def close_lost_run(run_id: int, lease_token: str) -> bool:
    """Record a tracked run as FAILED, "worker lost", unless it has ended or is another's meanwhile.

    Returns:
        Whether it was recorded.
    """
    return (
        execute_command(
            """
            UPDATE irp_step_run
               SET status = 'FAILED', completed_ts = clock_timestamp(), lease_token = NULL,
                   error_message = format(
                       'worker lost: process %s on host %s ended without a word; it was last heard of at %s',
                       pid, host, heartbeat_ts)
             WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
            """,
            (run_id, lease_token),
        )
        > 0
    )
