"""Steps and their runs.

Two ways to record a run. :func:`create_step_run` and :func:`update_step_run` are bookkeeping: they write what they are
told, and nobody judges those rows. :func:`track_step` runs a block of work under a fenced lease: it refuses a second
start, skips what is done already, notices dead workers, and never records the result of a worker that lost its lease.

Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

import getpass
import logging
import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.connections import in_transaction
from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.database import (
    DatabaseError,
    execute_command,
    execute_scalar,
    fetch_all,
    fetch_one,
    find_or_insert,
    transaction,
)
from irp_pipeline.helpers.db_context import carry_schema, get_current_schema, schema_context
from irp_pipeline.helpers.parameters import json_value
from irp_pipeline.worker import Worker, this_worker

_R = TypeVar("_R")

LEASE_SECONDS: Final = 60
"""A tracked run whose heartbeat is older than this has lost its lease."""

HEARTBEAT_SECONDS: Final = 10
"""How often a tracked run renews its lease."""

_START_PATIENCE_SECONDS: Final = 5
_START_LOCK_SECONDS: Final = 30
_RETRY_SECONDS: Final = 0.5
_TRACEBACK_CHARACTERS: Final = 4000
_FOREIGN_KEY_VIOLATION: Final = "23503"

_RUN_COLUMNS = """
    id, step_id, run_num, status, started_ts, completed_ts, started_by, error_message, output_data,
    tracked, heartbeat_ts, host, pid, input_hash, work_run_num, dagster_run_id
"""

_log = logging.getLogger(__name__)


class StepError(IrpError):
    """A step or a step run cannot be made, changed or tracked as asked."""


# --- steps --------------------------------------------------------------------------------------------------------


def get_or_create_step(stage_id: int, step_num: int, step_name: str, notebook_path: str | None = None) -> int:
    """Return the id of a stage's step, making the step if it is missing.

    An existing step comes back as it is, whatever name and path are given. Safe from any number of callers at once.

    Args:
        stage_id: the stage.
        step_num: number of the step within the stage, from 0.
        step_name: its name, if it is new.
        notebook_path: the notebook that does the work, if one does.

    Raises:
        StepError: there is no such stage.
        DatabaseError: the database refuses or is away.
    """
    try:
        step_id: int | None = find_or_insert(
            "SELECT id FROM irp_step WHERE stage_id = %s AND step_num = %s",
            (stage_id, step_num),
            """
            INSERT INTO irp_step (stage_id, step_num, step_name, notebook_path) VALUES (%s, %s, %s, %s)
            ON CONFLICT (stage_id, step_num) DO NOTHING RETURNING id
            """,
            (stage_id, step_num, step_name, notebook_path),
        )
    except DatabaseError as error:
        if error.sqlstate == _FOREIGN_KEY_VIOLATION:
            raise StepError(f"There is no stage with the id {stage_id} to put step {step_num} into") from error
        raise
    if step_id is None:
        raise StepError(f"The stage with the id {stage_id} was deleted while its step {step_num} was being made")
    return step_id


def get_step_info(step_id: int) -> dict[str, Any] | None:
    """Return a step and where it belongs, or None.

    Returns:
        id, stage_id, step_num, step_name, notebook_path, created_ts, stage_num, stage_name, cycle_id, cycle_name.
    """
    return fetch_one(
        """
        SELECT st.id, st.stage_id, st.step_num, st.step_name, st.notebook_path, st.created_ts,
               sg.stage_num, sg.stage_name, sg.cycle_id, c.cycle_name
          FROM irp_step st JOIN irp_stage sg ON sg.id = st.stage_id JOIN irp_cycle c ON c.id = sg.cycle_id
         WHERE st.id = %s
        """,
        (step_id,),
    )


def completed_work_before(step_id: int) -> list[tuple[int, int, int]]:
    """Return which runs did the work of the steps before this one, in the order of stages and steps.

    Args:
        step_id: a step of the cycle in question.

    Returns:
        ``(stage_num, step_num, run_num)`` of each earlier step that has completed under :func:`track_step`.
    """
    rows = fetch_all(
        """
        SELECT sg.stage_num, st.step_num, done.run_num
          FROM irp_step this
          JOIN irp_stage this_stage ON this_stage.id = this.stage_id
          JOIN irp_stage sg ON sg.cycle_id = this_stage.cycle_id
          JOIN irp_step st ON st.stage_id = sg.id
               AND (sg.stage_num, st.step_num) < (this_stage.stage_num, this.step_num)
          JOIN LATERAL (
                SELECT run_num FROM irp_step_run
                 WHERE step_id = st.id AND tracked AND status = 'COMPLETED' ORDER BY run_num DESC LIMIT 1) done ON true
         WHERE this.id = %s
         ORDER BY sg.stage_num, st.step_num
        """,
        (step_id,),
    )
    return [(row["stage_num"], row["step_num"], row["run_num"]) for row in rows]


# --- step runs as bookkeeping -------------------------------------------------------------------------------------


def get_last_step_run(step_id: int) -> dict[str, Any] | None:
    """Return the run of a step with the highest number, or None if it never ran.

    Returns:
        id, step_id, run_num, status, started_ts, completed_ts, started_by, error_message, output_data, tracked,
        heartbeat_ts, host, pid, input_hash, work_run_num, dagster_run_id.
    """
    return fetch_one(
        f"SELECT {_RUN_COLUMNS} FROM irp_step_run WHERE step_id = %s ORDER BY run_num DESC LIMIT 1",  # noqa: S608
        (step_id,),
    )


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
        raise _no_step(step_id)
    return run["id"], run["run_num"]


def update_step_run(
    run_id: int, status: str, error_message: str | None = None, output_data: dict[str, Any] | None = None
) -> bool:
    """Record how a step run stands.

    Args:
        run_id: the run.
        status: ACTIVE, COMPLETED, FAILED or SKIPPED. The last three are for good; saying the same again is allowed.
        error_message: why it failed; None keeps what is there.
        output_data: what it produced; None keeps what is there.

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
        (wanted, ended, _storable(error_message), output_data, ended, run_id, wanted),
    )
    if updated:
        return True
    ended_as = execute_scalar("SELECT status FROM irp_step_run WHERE id = %s", (run_id,))
    if ended_as is None:
        return False
    raise StepError(
        f"The step run with the id {run_id} has ended as {ended_as} and cannot become {wanted}. A further try is a "
        "run of its own: create_step_run"
    )


# --- step runs as work --------------------------------------------------------------------------------------------


@dataclass
class StepRun:
    """A tracked run, as the block of work sees it.

    Attributes:
        id: the run's id.
        step_id: the step's id.
        run_num: the run's number within the step.
        skipped: the work was done before: do nothing. ``output`` is then what that run produced.
        work_run_num: number of the run that did the work; ``run_num`` itself unless skipped.
        output: what the work produces, JSON-like; recorded when the block ends well.
        lease_lost: whether the lease was seen to be lost. Long work may look here and give up early.
    """

    id: int
    step_id: int
    run_num: int
    skipped: bool
    work_run_num: int
    output: dict[str, Any] = field(default_factory=dict)
    lease_lost: bool = False


@contextmanager
def track_step(
    step_id: int,
    started_by: str | None = None,
    fingerprint: str | None = None,
    rerun: bool = False,
    dagster_run_id: str | None = None,
) -> Iterator[StepRun]:
    """Run a block of work as one run of a step.

    The run is recorded as ACTIVE before the block and as COMPLETED after it; as FAILED with the error if the block
    raises, which goes on. The newest tracked run of the step that is not SKIPPED decides what happens at the start:
    COMPLETED with the same fingerprint, and this one is SKIPPED; ACTIVE with its worker alive, and this one is
    refused; ACTIVE with its worker dead, and that one becomes FAILED ("worker lost") and this one works.

    While the block runs, a thread renews the lease. Every later write is fenced by it: a worker that was taken for
    dead and comes back cannot record a result over the run that took its place.

    Args:
        step_id: the step.
        started_by: who started it; None means the user of the operating system.
        fingerprint: stands for everything the result depends on. None is a fingerprint too: work that depends on
            nothing.
        rerun: work even if it is done already.
        dagster_run_id: the Dagster run that this belongs to, if any.

    Yields:
        The run. Check ``skipped`` first, and put results into ``output``.

    Raises:
        StepError: there is no such step, the step is at work elsewhere, the lease was lost, the output has no JSON
            form, or the fingerprint is not text.
        DatabaseError: the database refuses or is away.

    Example:
        >>> with track_step(step_id, fingerprint=workbook_hash) as run:
        ...     if not run.skipped:
        ...         run.output["locations"] = extract(portfolio)
    """
    if in_transaction():
        raise StepError(
            "track_step cannot be used inside a transaction(): nobody would see its lease before the commit. Open the "
            "transaction inside the block"
        )
    _check_fingerprint(fingerprint)
    lease = _Lease(token=str(uuid.uuid4()), schema=get_current_schema(), owner=this_worker())
    run = _insist(
        lambda: _start(step_id, lease, started_by or _user(), fingerprint, rerun, dagster_run_id),
        _START_PATIENCE_SECONDS,
    )
    if run.skipped:
        yield run
        return
    heartbeat = _Heartbeat(run, lease)
    try:
        try:
            heartbeat.start()
            yield run
        finally:
            if _is_owner(lease):
                heartbeat.stop()
    except BaseException as error:
        if _is_owner(lease):
            _fail(run, lease, error)
        raise
    if _is_owner(lease):
        _complete(run, lease, fingerprint)


@dataclass(frozen=True)
class _Lease:
    token: str
    schema: str
    owner: Worker


def _is_owner(lease: _Lease) -> bool:
    """Tell whether this process holds the lease: a forked child that walks out of the block has nothing to say."""
    return os.getpid() == lease.owner.pid


def _check_fingerprint(fingerprint: object) -> None:
    """Refuse now what could not be recorded, or compared with what is recorded, when the work is done."""
    if fingerprint is not None and (not isinstance(fingerprint, str) or fingerprint != _storable(fingerprint)):
        raise StepError(f"A fingerprint is text that PostgreSQL can hold, or None, and not {fingerprint!r}")


def _start(
    step_id: int,
    lease: _Lease,
    started_by: str,
    fingerprint: str | None,
    rerun: bool,
    dagster_run_id: str | None,
) -> StepRun:
    with transaction():
        # One start at a time for each step: whoever comes second sees what the first one did. A starter that is
        # stopped here, or whose host is lost, must not keep the others out, nor a worker from renewing its lease.
        step = fetch_one(
            """
            SELECT step_name, set_config('idle_in_transaction_session_timeout', %s, true)
              FROM irp_step WHERE id = %s FOR NO KEY UPDATE
            """,
            (f"{_START_LOCK_SECONDS}s", step_id),
        )
        if step is None:
            raise _no_step(step_id)
        # The lock waits for a worker that is just recording how it ended.
        newest = fetch_one(
            """
            SELECT id, run_num, status, input_hash, output_data, coalesce(work_run_num, run_num) AS work_run_num,
                   lease_token, host, pid, pid_started, heartbeat_ts,
                   heartbeat_ts < clock_timestamp() - make_interval(secs => %s) AS expired
              FROM irp_step_run
             WHERE step_id = %s AND tracked AND status <> 'SKIPPED'
             ORDER BY run_num DESC LIMIT 1
               FOR NO KEY UPDATE
            """,
            (LEASE_SECONDS, step_id),
        )
        if newest and str(newest["lease_token"]) == lease.token:  # our own, of a try whose answer was lost
            return StepRun(newest["id"], step_id, newest["run_num"], skipped=False, work_run_num=newest["run_num"])
        if newest and newest["status"] == StepStatus.ACTIVE:
            _take_over(newest, step["step_name"])
        elif newest and newest["status"] == StepStatus.COMPLETED and newest["input_hash"] == fingerprint and not rerun:
            return _skip(step_id, newest, started_by, dagster_run_id)
        run = fetch_one(
            """
            WITH step AS (
                UPDATE irp_step SET last_run_num = last_run_num + 1 WHERE id = %s RETURNING id, last_run_num
            )
            INSERT INTO irp_step_run (step_id, run_num, status, started_by, tracked, lease_token, heartbeat_ts,
                                      host, pid, pid_started, dagster_run_id)
            SELECT id, last_run_num, 'ACTIVE', %s, true, %s, clock_timestamp(), %s, %s, %s, %s FROM step
            RETURNING id, run_num
            """,
            (
                step_id,
                started_by,
                lease.token,
                lease.owner.host,
                lease.owner.pid,
                lease.owner.started,
                dagster_run_id,
            ),
        )
    if run is None:
        raise _no_step(step_id)
    return StepRun(run["id"], step_id, run["run_num"], skipped=False, work_run_num=run["run_num"])


def _skip(step_id: int, done: dict[str, Any], started_by: str, dagster_run_id: str | None) -> StepRun:
    run = fetch_one(
        """
        WITH step AS (
            UPDATE irp_step SET last_run_num = last_run_num + 1 WHERE id = %s RETURNING id, last_run_num
        )
        INSERT INTO irp_step_run (step_id, run_num, status, started_ts, completed_ts, started_by, tracked, input_hash,
                                  work_run_num, output_data, dagster_run_id)
        SELECT step.id, step.last_run_num, 'SKIPPED', now.ts, now.ts, %s, true, done.input_hash,
               %s, done.output_data, %s
          FROM step, irp_step_run done, (SELECT clock_timestamp() AS ts) now
         WHERE done.id = %s
        RETURNING id, run_num
        """,
        (step_id, started_by, done["work_run_num"], dagster_run_id, done["id"]),
    )
    if run is None:
        raise _no_step(step_id)
    return StepRun(
        run["id"],
        step_id,
        run["run_num"],
        skipped=True,
        work_run_num=done["work_run_num"],
        output=done["output_data"] or {},
    )


def _take_over(active: dict[str, Any], step_name: str) -> None:
    """Close an ACTIVE tracked run whose worker is dead; refuse if it is alive."""
    if not is_lost(active):
        raise StepError(
            f"Step {step_name!r} is at work already: run {active['run_num']} on host {active['host']}, process "
            f"{active['pid']}, last heard of at {active['heartbeat_ts']:%Y-%m-%d %H:%M:%S} UTC. Wait for it, or end "
            "that process first"
        )
    close_lost_run(active["id"], active["lease_token"])


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


def _complete(run: StepRun, lease: _Lease, fingerprint: str | None) -> None:
    try:
        output = json_value(run.output)
        held = _finish(run, lease, StepStatus.COMPLETED, output=output, fingerprint=fingerprint)
    except Exception as error:
        if isinstance(error, DatabaseError) and error.disconnected:
            raise
        problem = StepError(f"The output of run {run.run_num} cannot be recorded: {_text_of(error)}")
        _fail(run, lease, problem)
        raise problem from error
    if not held:
        raise _lease_lost(run)


def _fail(run: StepRun, lease: _Lease, error: BaseException) -> None:
    """Record how the block failed. What goes wrong here is logged: the block's own error must go on."""
    try:
        message = _in_words(error) if isinstance(error, Exception) else f"cancelled ({type(error).__name__})"
        if not _finish(run, lease, StepStatus.FAILED, error_message=message):
            _log.warning("%s", _lease_lost(run))
            error.add_note(str(_lease_lost(run)))
    except Exception as failure:
        _log.error("The failure of step run %s could not be recorded: %s", run.id, failure)
        error.add_note(f"The step run {run.id} could not be recorded as FAILED: {failure}")


def _finish(
    run: StepRun,
    lease: _Lease,
    status: StepStatus,
    *,
    error_message: str | None = None,
    output: dict[str, Any] | None = None,
    fingerprint: str | None = None,
) -> bool:
    """End the run if the lease is still held; return whether it was."""

    def write() -> bool:
        with schema_context(lease.schema):
            written = execute_command(
                """
                UPDATE irp_step_run
                   SET status = %s, completed_ts = clock_timestamp(), error_message = %s, output_data = %s,
                       input_hash = %s, work_run_num = CASE WHEN %s = 'COMPLETED' THEN run_num END
                 WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
                """,
                (status, _storable(error_message), output, fingerprint, status, run.id, lease.token),
            )
            if written:
                return True
            # An earlier try may have been written though its answer was lost.
            recorded: str | None = execute_scalar(
                "SELECT status FROM irp_step_run WHERE id = %s AND lease_token = %s", (run.id, lease.token)
            )
            return recorded == status

    return _insist(write, LEASE_SECONDS)


class _Heartbeat:
    """A thread that renews the lease of a run until it is stopped or the lease is lost."""

    def __init__(self, run: StepRun, lease: _Lease) -> None:
        self._run = run
        self._lease = lease
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=carry_schema(self._beat), name=f"irp-heartbeat-{run.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        pause: float = HEARTBEAT_SECONDS
        while not self._stopped.wait(pause):
            try:
                renewed = execute_command(
                    """
                    UPDATE irp_step_run SET heartbeat_ts = clock_timestamp()
                     WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
                    """,
                    (self._run.id, self._lease.token),
                )
            except Exception as error:  # only the end of the lease ends this thread
                _log.warning("The lease of step run %s could not be renewed, trying again: %s", self._run.id, error)
                pause = 1
                continue
            pause = HEARTBEAT_SECONDS
            if not renewed and not self._stopped.is_set():
                self._run.lease_lost = True
                _log.error("%s", _lease_lost(self._run))
                return


def _insist(write: Callable[[], _R], patience: float) -> _R:
    """Call ``write``, which must be safe to repeat, until the server is there to answer it.

    A restart of the server takes seconds; the work that it would throw away may have taken hours.

    Args:
        write: what to call.
        patience: for how many seconds a server that is away is tried again.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return write()
        except DatabaseError as error:
            if not error.disconnected or time.monotonic() > deadline:
                raise
            _log.warning("The database is away, trying again: %s", error)
            time.sleep(_RETRY_SECONDS)


def _lease_lost(run: StepRun) -> StepError:
    return StepError(
        f"Run {run.run_num} of the step with the id {run.step_id} lost its lease: it was taken for dead and its place "
        "given to another run, or it was ended or deleted by hand. Its result is not recorded"
    )


def _no_step(step_id: int) -> StepError:
    return StepError(f"There is no step with the id {step_id} in schema {get_current_schema()!r}")


def _in_words(error: Exception) -> str:
    tail = "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:]
    return f"{type(error).__name__}: {_text_of(error)}\n\n{tail}"


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"without a message, since its __str__ raised {type(failure).__name__}"


def _storable(message: str | None) -> str | None:
    """Return a message without what PostgreSQL text cannot hold."""
    if message is None:
        return None
    return message.replace("\x00", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in many containers
        return f"uid {os.getuid()}"
