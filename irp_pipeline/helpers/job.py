"""Single jobs: each is one submission of a job configuration to a risk engine.

Here: submitting, following, resubmitting, restoring, skipping and cancelling a job.
:mod:`irp_pipeline.helpers.job_lookup` finds jobs; its names can also be imported from here.
:mod:`irp_pipeline.helpers.handover` handles many jobs of a batch. Works in the schema of
:mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from irp_pipeline import settings, store
from irp_pipeline.engines.folders import REQUEST
from irp_pipeline.helpers.batch_of_jobs import NO_CLIENT, BatchOfJobs, engine_of, lock_batch, open_batch
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.handover import (
    SET_ASIDE,
    cancel_jobs,
    end_at_engines,
    jobs_doing,
    replace_jobs,
    requests_of,
    submit_jobs,
    track_jobs,
)
from irp_pipeline.helpers.job_lookup import (
    JobHistory,
    JobInCycle,
    find_job,
    history_of_job,
    job_as_dict,
    job_history,
    jobs_of_cycle,
    list_jobs,
    no_job,
    read_job,
)
from irp_pipeline.helpers.job_record import Job
from irp_pipeline.helpers.job_request import JobError
from irp_pipeline.helpers.job_result import ResultFile, changed_file, result_files
from irp_pipeline.postgres.parameters import storable_text
from irp_pipeline.postgres.running import execute_command, execute_insert, execute_scalar

__all__ = [
    "BatchOfJobs",
    "Job",
    "JobError",
    "JobHistory",
    "JobInCycle",
    "ResultFile",
    "cancel_job",
    "cancel_jobs",
    "changed_file",
    "find_job",
    "history_of_job",
    "job_as_dict",
    "job_history",
    "job_log",
    "jobs_doing",
    "jobs_of_cycle",
    "list_jobs",
    "lock_batch",
    "open_batch",
    "read_job",
    "replace_jobs",
    "requests_of",
    "restore_job",
    "resubmit_job",
    "result_files",
    "skip_job",
    "submit_job",
    "submit_jobs",
    "track_job_status",
    "track_jobs",
]

_SET_CONFIGURATION_ASIDE = "UPDATE irp_job_configuration SET skipped = true WHERE id = %s"


def job_log(job_id: int) -> str:
    """Return what the engine has printed for a job so far; empty if nothing.

    Raises:
        JobError: there is no such job.
        EngineError: there is no such engine, or it cannot be reached.
    """
    job = _require_job(job_id)
    risk_engine = engine_of(job.cycle_name, job.job_configuration_data)
    folder = risk_engine.folder(job.work_key)
    if store.is_elsewhere() and not (folder / REQUEST).exists():  # another machine runs it, or has run it
        with suppress(store.MissingFileError):
            store.fetch_job_file(folder, store.LOG)
    return risk_engine.log(job.work_key)


def submit_job(job_id: int, client: object = None) -> JobStatus:
    """Hand a job to its engine. Safe to repeat; a job that was already handed over stays as it is.

    Args:
        job_id: the job.
        client: of the old framework, and refused.

    Returns:
        Its status after that: SUBMITTED, or ERROR if its request cannot be made or the engine refuses it.

    Raises:
        JobError: there is no such job, or it is skipped.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    _refuse_client(client)
    job = _require_job(job_id)
    if job.skipped:
        raise _skipped(job_id)
    submit_jobs(job.batch_id, [job_id])
    return _status_of(job_id)


def track_job_status(job_id: int, client: object = None) -> JobStatus:
    """Ask the engine for the status of a job, record it, and return it.

    Args:
        job_id: the job.
        client: of the old framework, and refused.

    Raises:
        JobError: there is no such job.
        CycleError: its cycle is archived.
        EngineError: the engine cannot be reached.
    """
    _refuse_client(client)
    track_jobs(_require_job(job_id).batch_id, [job_id])
    return _status_of(job_id)


def resubmit_job(
    job_id: int, job_configuration_data: Mapping[str, Any] | None = None, override_reason: str | None = None
) -> int:
    """Replace a job by a new one, which can then be submitted; the old job is kept and skipped.

    The engine computes it again, even if its request is the same. New parameters stay in force when steps run again,
    until :func:`restore_job`. The batch becomes ACTIVE again. If two callers resubmit a job at once, one succeeds and
    the other is refused.

    Args:
        job_id: a job that has ended, or was not handed over yet.
        job_configuration_data: parameters that replace those of the job; the others stay. They follow the rules of the
            workbook, and become a new job configuration.
        override_reason: why; needed with new parameters.

    Returns:
        The id of the new job, which is INITIATED.

    Raises:
        JobError: there is no such job; it is under way; it is already skipped or resubmitted; new parameters have no
            reason; another batch of the same kind is under way.
        WorkbookError: a parameter is unknown, cannot be changed, or breaks a rule of the workbook.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.workbook import check_override

    reason = storable_text((override_reason or "").strip())
    if job_configuration_data is not None and not reason:
        raise JobError("Other parameters for a job need a reason, which is kept with them: say override_reason")
    if job_configuration_data is not None and not isinstance(job_configuration_data, Mapping):
        raise JobError(f"The parameters of a job are names with values, not a {type(job_configuration_data).__name__}")
    batch_id = _require_job(job_id).batch_id
    with lock_batch(batch_id) as batch:
        job = _require_idle(job_id)
        if job.skipped:
            raise _skipped(job_id)
        configuration_id = None
        if job_configuration_data is not None:
            parameters = check_override(
                job.job_configuration_data,
                job_configuration_data,
                data_dir=batch.data_folder,
                models_dir=settings.models_folder(),
            )
            configuration_id = execute_insert(
                """
                INSERT INTO irp_job_configuration (batch_id, job_configuration_data, workbook_data, overridden,
                                                   override_reason)
                VALUES (%s, %s, %s, true, %s)
                """,
                (batch.id, parameters, _workbook_parameters(job), reason),
            )
            execute_command(_SET_CONFIGURATION_ASIDE, (job.job_configuration_id,))
        [new_id] = replace_jobs(batch, {job_id: reason}, [job], configuration_id, recompute=True)
    return new_id


def restore_job(job_id: int, reason: str | None = None) -> int:
    """Go back to the workbook: undo an override or a skip.

    Args:
        job_id: a job with other parameters than the workbook's, or one that is skipped.
        reason: why; recorded in its tracking log.

    Returns:
        The id of the new job, which has the workbook's parameters and is INITIATED.

    Raises:
        JobError: there is no such job; it is under way; another job replaced it; or it is already as in the workbook.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    batch_id = _require_job(job_id).batch_id
    with lock_batch(batch_id) as batch:
        job = _require_idle(job_id)
        if job.skipped and _newer_job(job_id) is not None:
            raise _skipped(job_id)
        if not job.skipped and not job.overridden:
            raise JobError(f"The job {job_id} has the workbook's parameters and is not skipped: nothing to restore")
        configuration_id = execute_insert(
            "INSERT INTO irp_job_configuration (batch_id, job_configuration_data) VALUES (%s, %s)",
            (batch.id, _workbook_parameters(job)),
        )
        execute_command(_SET_CONFIGURATION_ASIDE, (job.job_configuration_id,))
        why = "restored to the workbook" + (f": {storable_text(reason)}" if reason else "")
        # A skipped job does not count. Unskip it for a moment, so that it can be replaced like any other.
        execute_command("UPDATE irp_job SET skipped = false WHERE id = %s", (job_id,))
        [new_id] = replace_jobs(batch, {job_id: why}, [job], configuration_id)
    return new_id


def skip_job(job_id: int, reason: str | None = None) -> None:
    """Skip a job: its batch no longer waits for it, nor for its configuration.

    If it is under way, it is ended. Skipping a skipped job changes nothing. It stays skipped when steps run again,
    until :func:`restore_job`.

    Args:
        job_id: the job.
        reason: why; recorded in its tracking log.

    Raises:
        JobError: there is no such job, or another job replaced it.
        CycleError: its cycle is archived.
        EngineError: the engine cannot be reached to end the job.
    """
    said = storable_text(reason) if reason else None
    batch_id = _require_job(job_id).batch_id
    with lock_batch(batch_id) as batch:
        job = _require_job(job_id)
        if job.skipped:
            if _newer_job(job_id) is not None:
                raise _skipped(job_id)
            return
        end_at_engines(batch, [job])
        execute_command(
            f"""
            WITH skipped AS (
                UPDATE irp_job
                   SET {SET_ASIDE}
                 WHERE id = %s
                RETURNING id, job_configuration_id, status
            ), configuration AS (
                UPDATE irp_job_configuration c SET skipped = true, skipped_reason = %s
                  FROM skipped s WHERE c.id = s.job_configuration_id
            )
            INSERT INTO irp_job_tracking_log (job_id, status, message) SELECT id, status, %s FROM skipped
            """,  # noqa: S608
            (job_id, said, f"skipped: {said}" if said else "skipped"),
        )


def cancel_job(job_id: int) -> JobStatus:
    """Ask the engine to end a job. A job that has ended stays as it is.

    Returns:
        Its status after that: CANCELLED, CANCEL_REQUESTED while the engine is still ending it, or the status with which
        it had already ended.

    Raises:
        JobError: there is no such job, or it is skipped.
        CycleError: its cycle is archived.
        EngineError: the engine cannot be reached; the next tracking asks it again.
    """
    job = _require_job(job_id)
    if job.skipped:
        raise _skipped(job_id)
    cancel_jobs(job.batch_id, [job_id])
    return track_job_status(job_id)


def _refuse_client(client: object) -> None:
    if client is not None:
        raise JobError(NO_CLIENT)


def _require_job(job_id: int) -> JobInCycle:
    job = find_job(job_id)
    if job is None:
        raise no_job(job_id)
    return job


def _require_idle(job_id: int) -> JobInCycle:
    """Return a job if it can be replaced: if it has ended, or was not handed over yet."""
    job = _require_job(job_id)
    if not job.skipped and not job.status.is_terminal and job.status is not JobStatus.INITIATED:
        raise JobError(
            f"The job {job_id} is under way ({job.status}): cancel it first, and resubmit it when it has ended"
        )
    return job


def _workbook_parameters(job: Job) -> dict[str, Any]:
    """Return the workbook's parameters of a job, whatever a person has changed since."""
    if not job.overridden:
        return dict(job.job_configuration_data)
    if job.workbook_data is None:
        raise JobError(f"The workbook's parameters of the job {job.id} are not recorded")
    return dict(job.workbook_data)


def _status_of(job_id: int) -> JobStatus:
    return _require_job(job_id).status


def _newer_job(job_id: int) -> int | None:
    newer: int | None = execute_scalar("SELECT max(id) FROM irp_job WHERE parent_job_id = %s", (job_id,))
    return newer


def _skipped(job_id: int) -> JobError:
    newer = _newer_job(job_id)
    if newer is None:
        return JobError(f"The job {job_id} is skipped: the batch does not count it")
    return JobError(f"The job {job_id} was resubmitted already: the job {newer} took its place")
