"""Steps and their runs.

There are two ways to record a run. :func:`create_step_run` and :func:`update_step_run` only write what the caller says;
no decision depends on those rows. :func:`track_step`, of :mod:`irp_pipeline.helpers.lease`, runs a block of work under
a fenced lease, and skips work that is done.

Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.lease import no_step, track_step
from irp_pipeline.helpers.record import as_dict, record_or_none
from irp_pipeline.helpers.step_work import StepError, TrackedRun
from irp_pipeline.postgres.errors import FOREIGN_KEY_VIOLATION, DatabaseError
from irp_pipeline.postgres.running import execute_command, execute_scalar, fetch_one, find_or_insert
from irp_pipeline.storable import as_stored

__all__ = [
    "StepError",
    "StepInCycle",
    "StepRun",
    "TrackedRun",
    "create_step_run",
    "find_step",
    "get_last_step_run",
    "get_or_create_step",
    "get_step_info",
    "step_output",
    "track_step",
    "update_step_run",
]


_RUN_COLUMNS = """
    id, step_id, run_num, status, started_ts, completed_ts, started_by, error_message, output_data,
    tracked, heartbeat_ts, host, pid, input_hash, work_run_num, dagster_run_id, output_hash, reason
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepInCycle:
    """A numbered unit of work, with its stage and cycle.

    Attributes:
        id: the step's id.
        stage_id: its stage.
        step_num: its number within the stage.
        step_name: its name.
        step_key: identifies the step, whatever its number; None for a step of notebooks.
        notebook_path: the notebook that does the work, if any.
        created_ts: when it was made.
        stage_num: number of its stage.
        stage_name: name of its stage.
        cycle_id: its cycle.
        cycle_name: name of its cycle.
    """

    id: int
    stage_id: int
    step_num: int
    step_name: str
    step_key: str | None
    notebook_path: str | None
    created_ts: datetime
    stage_num: int
    stage_name: str
    cycle_id: int
    cycle_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRun:
    """The record of one execution of a step.

    Attributes:
        id: the run's id.
        step_id: its step.
        run_num: its number within the step.
        status: its status.
        started_ts: when it began.
        completed_ts: when it ended, if it has.
        started_by: who started it.
        error_message: why it failed.
        output_data: what it produced.
        tracked: whether it has a lease; else it is only recorded.
        heartbeat_ts: the last heartbeat of its worker.
        host: the host of its worker.
        pid: the process id of its worker.
        input_hash: of everything that the result depends on.
        work_run_num: number of the run that did the work.
        dagster_run_id: the Dagster run that it belongs to.
        output_hash: of the content of its output.
        reason: why it ran, or why it was skipped.
    """

    id: int
    step_id: int
    run_num: int
    status: StepStatus
    started_ts: datetime
    completed_ts: datetime | None
    started_by: str | None
    error_message: str | None
    output_data: dict[str, Any] | None
    tracked: bool
    heartbeat_ts: datetime | None
    host: str | None
    pid: int | None
    input_hash: str | None
    work_run_num: int | None
    dagster_run_id: str | None
    output_hash: str | None
    reason: str | None


# --- steps --------------------------------------------------------------------------------------------------------


def get_or_create_step(
    stage_id: int, step_num: int, step_name: str, notebook_path: str | None = None, *, step_key: str | None = None
) -> int:
    """Return the id of a stage's step, making the step if it is missing.

    An existing step without a key keeps its name and path, whatever is given. Safe for any number of callers at once.

    Args:
        stage_id: the stage.
        step_num: number of the step within the stage, from 0. Without a key it identifies the step; with a key it only
            sets the order in which steps are shown.
        step_name: its name, if it is new.
        notebook_path: the notebook that does the work, if any.
        step_key: identifies the step, whatever its number: a release can insert a step between two others, and they
            keep their records. A step with a key gets the given number and name, and the path if there is one.

    Raises:
        StepError: there is no such stage.
        DatabaseError: the database refuses or is away.
    """
    try:
        if step_key is None:
            step_id: int | None = find_or_insert(
                "SELECT id FROM irp_step WHERE stage_id = %s AND step_num = %s AND step_key IS NULL",
                (stage_id, step_num),
                """
                INSERT INTO irp_step (stage_id, step_num, step_name, notebook_path) VALUES (%s, %s, %s, %s)
                ON CONFLICT (stage_id, step_num) WHERE step_key IS NULL DO NOTHING RETURNING id
                """,
                (stage_id, step_num, step_name, notebook_path),
            )
        else:
            step_id = find_or_insert(
                """
                SELECT id FROM irp_step
                 WHERE stage_id = %s AND step_key = %s AND (step_num, step_name) = (%s, %s)
                   AND (%s::text IS NULL OR notebook_path = %s)
                """,
                (stage_id, step_key, step_num, step_name, notebook_path, notebook_path),
                """
                INSERT INTO irp_step (stage_id, step_key, step_num, step_name, notebook_path)
                VALUES (%s, %s, %s, %s, %s)
                ON CONFLICT (stage_id, step_key) WHERE step_key IS NOT NULL
                DO UPDATE SET step_num = excluded.step_num, step_name = excluded.step_name,
                              notebook_path = coalesce(excluded.notebook_path, irp_step.notebook_path)
                RETURNING id
                """,
                (stage_id, step_key, step_num, step_name, notebook_path),
            )
    except DatabaseError as error:
        if error.sqlstate == FOREIGN_KEY_VIOLATION:
            raise StepError(f"There is no stage with the id {stage_id} to put step {step_num} into") from error
        raise
    if step_id is None:
        raise StepError(f"The stage with the id {stage_id} was deleted while its step {step_num} was being made")
    return step_id


def find_step(cycle_id: int, step_key: str) -> int | None:
    """Return the id of a cycle's step with this key, or None."""
    step_id: int | None = execute_scalar(
        """
        SELECT st.id FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id
         WHERE sg.cycle_id = %s AND st.step_key = %s
        """,
        (cycle_id, step_key),
    )
    return step_id


def step_output(cycle_id: int, step_key: str) -> dict[str, Any]:
    """Return the output data of the newest completed run of a keyed step; empty if there is none."""
    row = fetch_one(
        """
        SELECT r.output_data
          FROM irp_stage sg
          JOIN irp_step st ON st.stage_id = sg.id
          JOIN irp_step_run r ON r.step_id = st.id AND r.status = 'COMPLETED'
         WHERE sg.cycle_id = %s AND st.step_key = %s
         ORDER BY r.run_num DESC LIMIT 1
        """,
        (cycle_id, step_key),
    )
    return (row["output_data"] if row else None) or {}


def get_step_info(step_id: int) -> dict[str, Any] | None:
    """Return a step with its stage and cycle, or None.

    Returns:
        id, stage_id, step_num, step_name, step_key, notebook_path, created_ts, stage_num, stage_name, cycle_id,
        cycle_name.
    """
    row = fetch_one(
        """
        SELECT st.id, st.stage_id, st.step_num, st.step_name, st.step_key, st.notebook_path, st.created_ts,
               sg.stage_num, sg.stage_name, sg.cycle_id, c.cycle_name
          FROM irp_step st JOIN irp_stage sg ON sg.id = st.stage_id JOIN irp_cycle c ON c.id = sg.cycle_id
         WHERE st.id = %s
        """,
        (step_id,),
    )
    return as_dict(record_or_none(StepInCycle, row))


# --- step runs that are only recorded -----------------------------------------------------------------------------


def get_last_step_run(step_id: int) -> dict[str, Any] | None:
    """Return the run of a step with the highest number, or None if it never ran.

    Returns:
        id, step_id, run_num, status, started_ts, completed_ts, started_by, error_message, output_data, tracked,
        heartbeat_ts, host, pid, input_hash, work_run_num, dagster_run_id, output_hash, reason.
    """
    row = fetch_one(
        f"SELECT {_RUN_COLUMNS} FROM irp_step_run WHERE step_id = %s ORDER BY run_num DESC LIMIT 1",  # noqa: S608
        (step_id,),
    )
    return as_dict(record_or_none(StepRun, row))


def create_step_run(step_id: int, started_by: str) -> tuple[int, int]:
    """Record that a run of a step has begun.

    Args:
        step_id: the step.
        started_by: who started it.

    Returns:
        The id of the run and its number: 1, 2, 3 … without gaps or repeats, however many callers there are.

    Raises:
        StepError: there is no such step.
        DatabaseError: the database refuses or is away.
    """
    run = fetch_one(
        """
        WITH step AS (
            UPDATE irp_step SET last_run_num = last_run_num + 1 WHERE id = %s RETURNING id, last_run_num
        )
        INSERT INTO irp_step_run (step_id, run_num, status, started_by)
        SELECT id, last_run_num, 'ACTIVE', %s FROM step
        RETURNING id, run_num
        """,
        (step_id, started_by),
    )
    if run is None:
        raise no_step(step_id)
    return run["id"], run["run_num"]


def update_step_run(
    run_id: int, status: str, error_message: str | None = None, output_data: dict[str, Any] | None = None
) -> bool:
    """Record the status of a step run.

    Args:
        run_id: the run.
        status: ACTIVE, COMPLETED, FAILED or SKIPPED. The last three are final; repeating the same one is allowed.
        error_message: why it failed; None keeps the recorded one.
        output_data: what it produced; None keeps the recorded data.

    Returns:
        Whether there is such a run.

    Raises:
        StepError: an unknown status, or another status for a run that has ended.
        DatabaseError: the database refuses or is away.
    """
    try:
        wanted = StepStatus(status)
    except ValueError:
        known = ", ".join(StepStatus)
        raise StepError(f"Unknown status {status!r} for a step run. The statuses are: {known}") from None
    ended = wanted is not StepStatus.ACTIVE
    updated = execute_command(
        """
        UPDATE irp_step_run
           SET status = %s,
               completed_ts = CASE WHEN %s THEN coalesce(completed_ts, clock_timestamp()) END,
               error_message = coalesce(%s, error_message),
               output_data = coalesce(%s, output_data),
               lease_token = CASE WHEN %s THEN NULL ELSE lease_token END
         WHERE id = %s AND status IN ('ACTIVE', %s)
        """,
        (wanted, ended, error_message and as_stored(error_message), output_data, ended, run_id, wanted),
    )
    if updated:
        return True
    ended_as = execute_scalar("SELECT status FROM irp_step_run WHERE id = %s", (run_id,))
    if ended_as is None:
        return False
    raise StepError(
        f"The step run with the id {run_id} has ended as {ended_as} and cannot become {wanted}. For another try, "
        "make a new run: create_step_run"
    )
