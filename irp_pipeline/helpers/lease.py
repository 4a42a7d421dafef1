"""Tracked step runs: a block of work under a fenced lease.

:func:`track_step` refuses a second start, skips work that is done, notices dead workers, and never records the result
of a worker that lost its lease. :mod:`irp_pipeline.helpers.decision` decides whether there is anything to do;
:mod:`irp_pipeline.helpers.artefact` describes files.

Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import StepStatus
from irp_pipeline.helpers.cycle_progress import CANCELLED
from irp_pipeline.helpers.db_context import get_current_schema, schema_context
from irp_pipeline.helpers.decision import Records, fingerprint_of, kept_inputs
from irp_pipeline.helpers.heartbeat import Heartbeat, Lease, Unwanted, lease_lost
from irp_pipeline.helpers.lost_runs import LEASE_SECONDS
from irp_pipeline.helpers.step_start import Start, begin, no_step
from irp_pipeline.helpers.step_work import StepError, TrackedRun
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.parameters import json_value
from irp_pipeline.postgres.running import execute_command, execute_scalar, transaction
from irp_pipeline.postgres.transactions import in_transaction
from irp_pipeline.process import this_process, user_name
from irp_pipeline.storable import as_stored

__all__ = ["StepError", "TrackedRun", "no_step", "track_step"]

_R = TypeVar("_R")

_START_PATIENCE_SECONDS: Final = 5
_RETRY_SECONDS: Final = 0.5
_TRACEBACK_CHARACTERS: Final = 4000
_log = logging.getLogger(__name__)


@contextmanager
def track_step(
    step_id: int,
    started_by: str | None = None,
    fingerprint: str | None = None,
    rerun: bool = False,
    dagster_run_id: str | None = None,
    *,
    inputs: Mapping[str, Any] | None = None,
    records: Records | None = None,
    pending: str | None = None,
    unwanted: Unwanted | None = None,
) -> Iterator[TrackedRun]:
    """Run a block of work as one run of a step.

    The run is recorded as ACTIVE before the block and as COMPLETED after it. If the block raises, the run is recorded
    as FAILED with the error, and the error is raised again. The newest tracked run of the step that is not SKIPPED
    decides what happens at the start. If it is COMPLETED with the same fingerprint, and its output is still as
    recorded, the new run is SKIPPED. If it is ACTIVE and its worker is alive, the new run is refused. If it is ACTIVE
    and its worker is dead, it becomes FAILED ("worker lost"), and the new run works.

    During the block, a thread renews the lease. The lease fences every later write: a worker that was taken for dead
    and comes back can neither overwrite the result of the run that replaced it, nor publish a file.

    Args:
        step_id: the step.
        started_by: who started it; None means the user of the operating system.
        fingerprint: a hash of everything the result depends on. None is also a fingerprint: the work depends on
            nothing, unless ``inputs`` are given.
        rerun: work even if it is already done.
        dagster_run_id: the Dagster run that this belongs to, if any.
        inputs: everything that the result depends on, as plain data by name. They are recorded, so that people see
            which one changed. If no fingerprint is given, it is made of them.
        records: returns the present content of the records that the step keeps in the database, by name. If they have
            changed since the last run, the step works again.
        pending: work that waits to be done, whatever was done before; None if there is none.
        unwanted: asked at each heartbeat whether the work is still wanted. Once it is not, the block is interrupted as
            by Ctrl-C, so it must run in the main thread of its process.

    Yields:
        The run. Check ``skipped`` first, and put results into ``output``; declare files by ``add_file``.

    Raises:
        StepError: there is no such step, the step is already at work, the lease was lost, the output has no JSON form,
            a file cannot be published, or the fingerprint is not text.
        DatabaseError: the database refuses or is away.

    Example:
        >>> with track_step(step_id, inputs={"workbook": workbook_hash}) as run:
        ...     if not run.skipped:
        ...         run.output["locations"] = extract(portfolio, run.scratch / "location.parquet")
        ...         run.add_file(run.scratch / "location.parquet")
    """
    if in_transaction():
        raise StepError(
            "track_step cannot be used inside a transaction(): nobody would see its lease before the commit. Open the "
            "transaction inside the block"
        )
    if fingerprint is None and inputs is not None:
        fingerprint = fingerprint_of(inputs)
    _check_fingerprint(fingerprint)
    lease = Lease(token=str(uuid.uuid4()), schema=get_current_schema(), owner=this_process())
    start = Start(step_id, started_by or user_name(), fingerprint, inputs, rerun, dagster_run_id, records, pending)
    run = _insist(lambda: begin(start, lease), _START_PATIENCE_SECONDS)
    if run.skipped:
        yield run
        return
    heartbeat = Heartbeat(run, lease, unwanted)
    try:
        try:
            heartbeat.start()
            yield run
            if _is_owner(lease):
                run.outputs.copy_to_store()
        finally:
            if _is_owner(lease):
                heartbeat.stop()
    except BaseException as error:
        if _is_owner(lease):
            _fail(run, lease, error, heartbeat.interrupted)
            run.outputs.clean_up()
        raise
    if _is_owner(lease):
        try:
            _complete(run, lease, start)
        finally:
            run.outputs.clean_up()


def _is_owner(lease: Lease) -> bool:
    """Tell whether this process holds the lease: a forked child that leaves the block must record nothing."""
    return os.getpid() == lease.owner.pid


def _check_fingerprint(fingerprint: object) -> None:
    """Refuse a fingerprint now that could not be recorded or compared after the work."""
    if fingerprint is not None and (not isinstance(fingerprint, str) or fingerprint != as_stored(fingerprint)):
        raise StepError(f"A fingerprint is text that PostgreSQL can hold, or None, and not {fingerprint!r}")


def _complete(run: TrackedRun, lease: Lease, start: Start) -> None:
    try:
        held = _insist(lambda: _write_completion(run, lease, start), LEASE_SECONDS)
    except Exception as error:
        if isinstance(error, DatabaseError) and error.disconnected:
            raise
        problem = error if isinstance(error, IrpError) and not isinstance(error, DatabaseError) else None
        problem = problem or StepError(f"The output of run {run.run_num} cannot be recorded: {_text_of(error)}")
        _fail(run, lease, problem)
        if problem is error:
            raise
        raise problem from error
    if not held:
        raise lease_lost(run)


def _write_completion(run: TrackedRun, lease: Lease, start: Start) -> bool:
    """Publish and record the output of the run if the lease is still held; return whether it was."""
    with schema_context(lease.schema):
        if start.records is None and not run.outputs:
            return _end(run, lease, start, {}) or _has_ended_as(run, lease, StepStatus.COMPLETED)
        with transaction():
            held = execute_scalar(
                "SELECT true FROM irp_step_run WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s FOR UPDATE",
                (run.id, lease.token),
            )
            if not held:
                return _has_ended_as(run, lease, StepStatus.COMPLETED)
            run.outputs.publish()
            for write in run.outputs.writes:
                write()
            now = start.records() if start.records is not None else {}
            return _end(run, lease, start, kept_inputs({**run.outputs.records, **now}))


def _end(run: TrackedRun, lease: Lease, start: Start, records: Mapping[str, str]) -> bool:
    """Record the end of a run and its artefacts; return whether the lease was held."""
    rows = [artefact.as_row() for artefact in run.outputs.artefacts]
    inputs, fingerprint = start.inputs, start.fingerprint
    if run.found_inputs:
        inputs = {**(inputs or {}), **run.found_inputs}
        fingerprint = fingerprint_of(inputs)
    with_artefacts = """
        INSERT INTO irp_artefact (step_run_id, artefact_key, sha256, content_hash, bytes, metadata)
        SELECT ended.id, a.artefact_key, a.sha256, a.content_hash, a.bytes, a.metadata
          FROM ended, jsonb_to_recordset(%s -> 'rows')
               AS a (artefact_key text, sha256 text, content_hash text, bytes bigint, metadata jsonb)
    """
    return bool(
        execute_scalar(
            f"""
            WITH ended AS (
                UPDATE irp_step_run
                   SET status = 'COMPLETED', completed_ts = clock_timestamp(), error_message = NULL, output_data = %s,
                       input_hash = %s, inputs = %s, records = %s, output_hash = %s, work_run_num = run_num
                 WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
                RETURNING id
            ) {", kept AS (" + with_artefacts + ")" if rows else ""}
            SELECT true FROM ended
            """,  # noqa: S608
            (
                json_value(run.output),
                fingerprint,
                None if inputs is None else kept_inputs(inputs),
                dict(records) or None,
                run.outputs.content_hash(records),
                run.id,
                lease.token,
                *([{"rows": rows}] if rows else []),
            ),
        )
    )


def _has_ended_as(run: TrackedRun, lease: Lease, status: StepStatus) -> bool:
    """Tell whether an earlier try was recorded although its answer was lost."""
    recorded: str | None = execute_scalar(
        "SELECT status FROM irp_step_run WHERE id = %s AND lease_token = %s", (run.id, lease.token)
    )
    return recorded == status


def _fail(run: TrackedRun, lease: Lease, error: BaseException, interrupted: str | None = None) -> None:
    """Record how the block failed. Errors here are only logged: the block's own error must be raised.

    Args:
        run: the run.
        lease: its lease.
        error: what ended the block.
        interrupted: why the heartbeat interrupted it, if it did.
    """
    try:
        cancelled = f"{CANCELLED} ({interrupted or type(error).__name__})"
        message = _in_words(error) if isinstance(error, Exception) else cancelled
        if not _insist(lambda: _write_failure(run, lease, message), LEASE_SECONDS):
            _log.warning("%s", lease_lost(run))
            error.add_note(str(lease_lost(run)))
    except Exception as failure:
        _log.error("The failure of step run %s could not be recorded: %s", run.id, failure)
        error.add_note(f"The step run {run.id} could not be recorded as FAILED: {failure}")


def _write_failure(run: TrackedRun, lease: Lease, message: str) -> bool:
    """Record the run as FAILED if the lease is still held; return whether it was."""
    with schema_context(lease.schema):
        written = execute_command(
            """
            UPDATE irp_step_run SET status = 'FAILED', completed_ts = clock_timestamp(), error_message = %s
             WHERE id = %s AND status = 'ACTIVE' AND lease_token = %s
            """,
            (as_stored(message), run.id, lease.token),
        )
        return written > 0 or _has_ended_as(run, lease, StepStatus.FAILED)


def _insist(write: Callable[[], _R], patience: float) -> _R:
    """Call ``write``, which must be safe to repeat, until the server answers.

    A restart of the server takes seconds; the work that would be lost may have taken hours.

    Args:
        write: what to call.
        patience: for how many seconds to try again while the server is away.
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


def _in_words(error: Exception) -> str:
    tail = "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:]
    return f"{type(error).__name__}: {_text_of(error)}\n\n{tail}"


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception as failure:
        return f"without a message, since its __str__ raised {type(failure).__name__}"
