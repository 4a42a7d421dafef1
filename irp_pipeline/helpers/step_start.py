"""Beginning a tracked run under the lock of its step: a new run, one that replaces a lost run, or a skipped one.

Here: one try to begin, which is safe to repeat. :mod:`irp_pipeline.helpers.lease` follows the run after that;
:mod:`irp_pipeline.helpers.decision` decides whether there is anything to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.decision import Records, Verdict, decide
from irp_pipeline.helpers.heartbeat import Lease
from irp_pipeline.helpers.lost_runs import LEASE_COLUMNS, LEASE_SECONDS, HeldLease, lease_of
from irp_pipeline.helpers.step_work import Outputs, StepError, TrackedRun
from irp_pipeline.postgres.running import fetch_one, transaction

_START_LOCK_SECONDS: Final = 30


@dataclass(frozen=True)
class Start:
    """The arguments of :func:`track_step`."""

    step_id: int
    started_by: str
    fingerprint: str | None
    inputs: Mapping[str, Any] | None
    rerun: bool
    dagster_run_id: str | None
    records: Records | None
    pending: str | None

    def decide(self) -> Verdict:
        """Say whether there is anything to do.

        Raises:
            StepError: there is no such step.
        """
        verdict = decide(
            self.step_id,
            self.fingerprint,
            self.inputs,
            rerun=self.rerun,
            records=self.records,
            pending=self.pending,
        )
        if verdict is None:
            raise no_step(self.step_id)
        return verdict


def begin(start: Start, lease: Lease) -> TrackedRun:
    """Begin or skip a run. Files are hashed before the step is locked; if the step changes in between, decide again."""
    while True:
        verdict = start.decide()
        run = _begin_as_decided(start, lease, verdict)
        if run is not None:
            return run


def _begin_as_decided(start: Start, lease: Lease, verdict: Verdict) -> TrackedRun | None:
    """Begin or skip a run under the lock of its step; None if the verdict no longer holds."""
    with transaction():
        # One start at a time for each step: a second caller sees the result of the first. A caller that is stopped
        # here, or whose host is lost, must neither keep others out, nor keep a worker from renewing its lease.
        step = fetch_one(
            """
            SELECT step_name, set_config('idle_in_transaction_session_timeout', %s, true)
              FROM irp_step WHERE id = %s FOR NO KEY UPDATE
            """,
            (f"{_START_LOCK_SECONDS}s", start.step_id),
        )
        if step is None:
            raise no_step(start.step_id)
        # The lock waits for a worker that is recording its end.
        newest = _newest_work(start.step_id)
        reason = verdict.reason
        seen = (newest.id, newest.status) if newest else (None, None)
        if newest and newest.lease:
            if newest.lease.token == lease.token:  # our own: an earlier try whose answer was lost
                return _begun(newest.id, newest.run_num, start, lease, verdict, newest.reason)
            _take_over(newest.lease, step["step_name"])
            reason = f"the worker of run {newest.run_num} was lost"
        elif seen != (verdict.newest_id, verdict.newest_status):
            return None
        elif verdict.skip and newest:
            return _skip(start, lease, verdict, newest)
        run = fetch_one(
            """
            WITH step AS (
                UPDATE irp_step SET last_run_num = last_run_num + 1 WHERE id = %s RETURNING id, last_run_num
            )
            INSERT INTO irp_step_run (step_id, run_num, status, started_by, tracked, lease_token, heartbeat_ts,
                                      host, pid, pid_started, dagster_run_id, reason)
            SELECT id, last_run_num, 'ACTIVE', %s, true, %s, clock_timestamp(), %s, %s, %s, %s, %s FROM step
            RETURNING id, run_num
            """,
            (
                start.step_id,
                start.started_by,
                lease.token,
                lease.owner.host,
                lease.owner.pid,
                lease.owner.started,
                start.dagster_run_id,
                reason,
            ),
        )
    if run is None:
        raise no_step(start.step_id)
    return _begun(run["id"], run["run_num"], start, lease, verdict, reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """The newest tracked run of a step that is not SKIPPED: the one that decides."""

    id: int
    run_num: int
    status: StepStatus
    lease: HeldLease | None  # while it is ACTIVE
    reason: str
    output: dict[str, Any]
    work_run_num: int


def _newest_work(step_id: int) -> _Work | None:
    row = fetch_one(
        f"""
        SELECT {LEASE_COLUMNS}, r.status, r.reason, r.output_data, coalesce(r.work_run_num, r.run_num) AS work_run_num
          FROM irp_step_run r
         WHERE r.step_id = %s AND r.tracked AND r.status <> 'SKIPPED'
         ORDER BY r.run_num DESC LIMIT 1
           FOR NO KEY UPDATE
        """,  # noqa: S608
        (LEASE_SECONDS, step_id),
    )
    if row is None:
        return None
    status = StepStatus(row["status"])
    return _Work(
        id=row["run_id"],
        run_num=row["run_num"],
        status=status,
        lease=lease_of(row) if status is StepStatus.ACTIVE else None,
        reason=row["reason"],
        output=row["output_data"] or {},
        work_run_num=row["work_run_num"],
    )


def _begun(run_id: int, run_num: int, start: Start, lease: Lease, verdict: Verdict, reason: str) -> TrackedRun:
    return TrackedRun(
        id=run_id,
        step_id=start.step_id,
        run_num=run_num,
        skipped=False,
        work_run_num=run_num,
        reason=reason,
        outputs=_no_outputs(start, lease, verdict),
    )


def _no_outputs(start: Start, lease: Lease, verdict: Verdict) -> Outputs:
    return Outputs(lease.schema, verdict.cycle_name, start.step_id, lease.token)


def _skip(start: Start, lease: Lease, verdict: Verdict, done: _Work) -> TrackedRun:
    run = fetch_one(
        """
        WITH step AS (
            UPDATE irp_step SET last_run_num = last_run_num + 1 WHERE id = %s RETURNING id, last_run_num
        )
        INSERT INTO irp_step_run (step_id, run_num, status, started_ts, completed_ts, started_by, tracked, input_hash,
                                  inputs, records, output_hash, reason, work_run_num, output_data, dagster_run_id)
        SELECT step.id, step.last_run_num, 'SKIPPED', now.ts, now.ts, %s, true, done.input_hash,
               done.inputs, done.records, done.output_hash, %s, %s, done.output_data, %s
          FROM step, irp_step_run done, (SELECT clock_timestamp() AS ts) now
         WHERE done.id = %s
        RETURNING id, run_num
        """,
        (
            start.step_id,
            start.started_by,
            verdict.reason,
            done.work_run_num,
            start.dagster_run_id,
            done.id,
        ),
    )
    if run is None:
        raise no_step(start.step_id)
    return TrackedRun(
        id=run["id"],
        step_id=start.step_id,
        run_num=run["run_num"],
        skipped=True,
        work_run_num=done.work_run_num,
        reason=verdict.reason,
        output=done.output,
        outputs=_no_outputs(start, lease, verdict),
    )


def _take_over(active: HeldLease, step_name: str) -> None:
    """Close an ACTIVE tracked run whose worker is dead; refuse if it is alive."""
    if not active.is_lost():
        raise StepError(
            f"Step {step_name!r} is at work already: run {active.run_num} on host {active.worker.host}, process "
            f"{active.worker.pid}, last heard of at {active.heartbeat_ts:%Y-%m-%d %H:%M:%S} UTC. Wait for it, or end "
            "that process first"
        )
    active.close()


def no_step(step_id: int) -> StepError:
    """Return the error for a step that does not exist."""
    return StepError(f"There is no step with the id {step_id} in schema {get_current_schema()!r}")
