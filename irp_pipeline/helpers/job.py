"""Jobs: one submission of a job configuration to a risk engine each.

For one job: :func:`submit_job`, :func:`track_job_status`, :func:`resubmit_job`, :func:`skip_job`, :func:`cancel_job`.
For many of one batch: :func:`submit_jobs`, :func:`track_jobs`, :func:`replace_jobs`, :func:`cancel_jobs`, which
:mod:`irp_pipeline.helpers.batch` stands on; how many statements they send does not depend on how many jobs there are.

Who changes a job holds the lock on its batch meanwhile, so that changes to one batch come one after the other. The
request of a job is written down before it goes to the engine, under a key that goes with it: after a crash at any point
the same request is handed over again under the same key, and the engine has it once. A job whose request has changed
until then gets another key. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from irp_pipeline import settings
from irp_pipeline.engines import EngineError, JobPhase, JobState, RiskEngine, check_result, engine
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.artefact import difference
from irp_pipeline.helpers.configuration import data_folder
from irp_pipeline.helpers.constants import BatchStatus, CycleStatus, JobStatus
from irp_pipeline.helpers.cycle import require_open_cycle
from irp_pipeline.helpers.database import (
    DatabaseError,
    execute_command,
    execute_insert,
    execute_scalar,
    fetch_all,
    fetch_one,
    transaction,
)
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_request import PLACES, JobError, Requests
from irp_pipeline.helpers.parameters import storable_text

__all__ = [
    "BatchOfJobs",
    "JobError",
    "ResultFile",
    "cancel_job",
    "cancel_jobs",
    "changed_file",
    "job_history",
    "job_log",
    "jobs_doing",
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

_UNIQUE_VIOLATION: Final = "23505"

_STATUS_OF_PHASE: Final = {
    JobPhase.QUEUED: JobStatus.QUEUED,
    JobPhase.RUNNING: JobStatus.RUNNING,
    JobPhase.FINISHED: JobStatus.FINISHED,
    JobPhase.FAILED: JobStatus.FAILED,
    JobPhase.CANCELLED: JobStatus.CANCELLED,
}
_LONGEST_MESSAGE: Final = 2000
_PERHAPS_AT_ENGINE: Final = frozenset({JobStatus.INITIATED, JobStatus.ERROR})
_BEING_CANCELLED: Final = frozenset({JobStatus.CANCEL_REQUESTED, JobStatus.CANCELLING})

_BATCH = """
    SELECT b.id, b.configuration_id, b.batch_type, b.status, cy.id AS cycle_id, cy.cycle_name,
           cy.status AS cycle_status, cf.data_folder,
           jsonb_path_query_array(cf.configuration_data, '$.portfolios[*].name') AS portfolios
      FROM irp_batch b
      JOIN irp_configuration cf ON cf.id = b.configuration_id
      JOIN irp_cycle cy ON cy.id = cf.cycle_id
     WHERE b.id = %s
"""
_JOB_COLUMNS = """
    j.id, j.batch_id, j.job_configuration_id, j.parent_job_id, j.job_key, j.status, j.skipped, j.created_ts,
    j.submitted_ts, j.completed_ts, j.error_message, j.work_job_id, j.recompute,
    c.job_configuration_data, c.overridden, c.override_reason
"""

# What becomes of a job that its batch no longer counts: one that was under way has been ended.
_SET_ASIDE = """
    skipped = true,
    status = CASE WHEN status IN ('INITIATED', 'FINISHED', 'FAILED', 'CANCELLED', 'ERROR')
                  THEN status ELSE 'CANCELLED' END,
    completed_ts = CASE WHEN status = 'INITIATED' THEN completed_ts
                        ELSE coalesce(completed_ts, clock_timestamp()) END
"""
_SET_CONFIGURATION_ASIDE = "UPDATE irp_job_configuration SET skipped = true WHERE id = %s"
_JOB_AND_ABOVE = """
    irp_job j
    JOIN irp_job_configuration c ON c.id = j.job_configuration_id
    JOIN irp_batch b ON b.id = j.batch_id
    JOIN irp_configuration cf ON cf.id = b.configuration_id
    JOIN irp_cycle cy ON cy.id = cf.cycle_id
    LEFT JOIN irp_job w ON w.id = j.work_job_id
"""


@dataclass(frozen=True)
class BatchOfJobs:
    """What the jobs of a batch have in common.

    Attributes:
        id: the batch's id.
        configuration_id: the configuration that asks for the batch.
        batch_type: what its jobs do.
        status: how it stands.
        cycle_id: the cycle.
        cycle_name: its name.
        data_folder: what the file names of the configuration start from, on this machine.
        portfolios: names of the configuration's portfolios.
    """

    id: int
    configuration_id: int
    batch_type: str
    status: BatchStatus
    cycle_id: int
    cycle_name: str
    data_folder: Path
    portfolios: tuple[str, ...]

    def engine_of(self, job: Mapping[str, Any]) -> RiskEngine:
        """Return the engine that a job is for.

        Raises:
            EngineError: there is no such engine.
        """
        return _engine_of(self.cycle_name, job["job_configuration_data"])


# --- what a job is, and what becomes of it ------------------------------------------------------------------------


def read_job(job_id: int) -> dict[str, Any] | None:
    """Return a job, or None.

    Returns:
        id, batch_id, job_configuration_id, parent_job_id, job_key, status, skipped, created_ts, submitted_ts,
        completed_ts, error_message, work_job_id (the job whose result this one has, since it had the same request),
        recompute, job_configuration_data, overridden, override_reason, workbook_data (the workbook's parameters, if a
        person gave others), request_data (what the engine was given), result_data (what came back), batch_type,
        configuration_id, cycle_name, folder (where the engine keeps its files; None if there is no such engine).
    """
    job = fetch_one(
        f"""
        SELECT {_JOB_COLUMNS}, c.workbook_data, j.request_data, j.result_data, b.batch_type, b.configuration_id,
               cy.cycle_name, coalesce(w.job_key, j.job_key) AS work_key
          FROM {_JOB_AND_ABOVE}
         WHERE j.id = %s
        """,  # noqa: S608
        (job_id,),
    )
    if job is not None:
        try:
            folder = _engine_of(job["cycle_name"], job["job_configuration_data"]).folder(job.pop("work_key"))
        except EngineError:
            folder = None
        job["folder"] = None if folder is None else str(folder)
    return job


def list_jobs(cycle_id: int, status: str | None = None) -> list[dict[str, Any]]:
    """Return the jobs of all batches of a cycle in the order they were made, skipped ones too.

    Args:
        cycle_id: the cycle; an unknown one has no jobs.
        status: only jobs that stand so.

    Returns:
        id, batch_id, job_configuration_id, parent_job_id, job_key, status, skipped, created_ts, submitted_ts,
        completed_ts, error_message, work_job_id, recompute, job_configuration_data, overridden, override_reason,
        batch_type.
    """
    return fetch_all(
        f"""
        SELECT {_JOB_COLUMNS}, b.batch_type
          FROM irp_configuration cf
          JOIN irp_batch b ON b.configuration_id = cf.id
          JOIN irp_job j ON j.batch_id = b.id
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE cf.cycle_id = %s AND (%s::text IS NULL OR j.status = %s)
         ORDER BY j.id
        """,  # noqa: S608
        (cycle_id, status, status),
    )


def job_log(job_id: int) -> str:
    """Return what the engine printed for a job so far; empty if there is nothing.

    Raises:
        JobError: there is no such job.
        EngineError: there is no such engine, or it cannot be reached.
    """
    job = _require_job(job_id)
    return _engine_of(job["cycle_name"], job["job_configuration_data"]).log(job["work_key"])


def job_history(job_id: int) -> list[dict[str, Any]]:
    """Return a job with those it came from and those that came from it, the oldest first.

    Returns:
        The columns of :func:`list_jobs` without ``batch_type``, and ``tracking``: what became of the job, the oldest
        first, as dicts of status, message, logged_ts.

    Raises:
        JobError: there is no such job.
    """
    jobs = fetch_all(
        f"""
        WITH RECURSIVE earlier AS (
            SELECT id, parent_job_id FROM irp_job WHERE id = %s
            UNION ALL
            SELECT p.id, p.parent_job_id FROM irp_job p JOIN earlier e ON p.id = e.parent_job_id
        ), chain AS (
            SELECT id FROM earlier WHERE parent_job_id IS NULL
            UNION ALL
            SELECT n.id FROM irp_job n JOIN chain ch ON n.parent_job_id = ch.id
        )
        SELECT {_JOB_COLUMNS}
          FROM chain
          JOIN irp_job j ON j.id = chain.id
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         ORDER BY j.id
        """,  # noqa: S608
        (job_id,),
    )
    if not jobs:
        raise _no_job(job_id)
    tracking = defaultdict(list)
    for entry in fetch_all(
        "SELECT job_id, status, message, logged_ts FROM irp_job_tracking_log WHERE job_id = ANY(%s) ORDER BY id",
        ([job["id"] for job in jobs],),
    ):
        tracking[entry.pop("job_id")].append(entry)
    return [{**job, "tracking": tracking[job["id"]]} for job in jobs]


# --- one job ------------------------------------------------------------------------------------------------------


def submit_job(job_id: int) -> JobStatus:
    """Hand a job to its engine. Safe to repeat; a job that was handed over already is left as it is.

    Returns:
        How it stands then: SUBMITTED, or ERROR if its request cannot be made or the engine refuses it.

    Raises:
        JobError: there is no such job, or it is skipped.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    job = _require_job(job_id)
    if job["skipped"]:
        raise _skipped(job_id)
    submit_jobs(job["batch_id"], [job_id])
    return _status_of(job_id)


def track_job_status(job_id: int) -> JobStatus:
    """Ask the engine how a job stands, write it down, and return it.

    Raises:
        JobError: there is no such job.
        CycleError: its cycle is archived.
        EngineError: the engine cannot be reached.
    """
    track_jobs(_require_job(job_id)["batch_id"], [job_id])
    return _status_of(job_id)


def resubmit_job(
    job_id: int, job_configuration_data: Mapping[str, Any] | None = None, override_reason: str | None = None
) -> int:
    """Make a new job in place of one, to be submitted; the old one is kept and skipped.

    The engine computes it again, even if its request is the same. Other parameters stay when steps run again, until
    :func:`restore_job`. The batch becomes ACTIVE again. Of two that resubmit a job at once, one does it and the other
    is refused.

    Args:
        job_id: a job that has ended, or was not handed over yet.
        job_configuration_data: parameters that replace those of the job; those that are not named stay. They follow
            the rules of the workbook, and become a job configuration of their own.
        override_reason: why; needed with other parameters.

    Returns:
        The id of the new job, which is INITIATED.

    Raises:
        JobError: there is no such job; it is under way; it is skipped or resubmitted already; other parameters without
            a reason; another batch of the same kind is under way.
        WorkbookError: a parameter is unknown, cannot be changed, or breaks a rule of the workbook.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.helpers.workbook import check_override

    reason = storable_text((override_reason or "").strip())
    if job_configuration_data is not None and not reason:
        raise JobError("Other parameters for a job need a reason, which is kept with them: say override_reason")
    if job_configuration_data is not None and not isinstance(job_configuration_data, Mapping):
        raise JobError(f"The parameters of a job are names with values, not a {type(job_configuration_data).__name__}")
    batch_id = _require_job(job_id)["batch_id"]
    with lock_batch(batch_id) as batch:
        job = _require_idle(job_id)
        if job["skipped"]:
            raise _skipped(job_id)
        configuration_id = None
        if job_configuration_data is not None:
            parameters = check_override(
                job["job_configuration_data"],
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
            execute_command(_SET_CONFIGURATION_ASIDE, (job["job_configuration_id"],))
        [new_id] = replace_jobs(batch, {job_id: reason}, [job], configuration_id, recompute=True)
    return new_id


def restore_job(job_id: int, reason: str | None = None) -> int:
    """Go back to the workbook: undo an override or a skip.

    Args:
        job_id: a job with other parameters than the workbook's, or one that is skipped.
        reason: why; kept in its tracking log.

    Returns:
        The id of the new job, which has the workbook's parameters and is INITIATED.

    Raises:
        JobError: there is no such job; it is under way; another took its place; it is as the workbook says.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    batch_id = _require_job(job_id)["batch_id"]
    with lock_batch(batch_id) as batch:
        job = _require_idle(job_id)
        if job["skipped"] and _newer_job(job_id) is not None:
            raise _skipped(job_id)
        if not job["skipped"] and not job["overridden"]:
            raise JobError(f"The job {job_id} has the workbook's parameters and is not skipped: nothing to restore")
        configuration_id = execute_insert(
            "INSERT INTO irp_job_configuration (batch_id, job_configuration_data) VALUES (%s, %s)",
            (batch.id, _workbook_parameters(job)),
        )
        execute_command(_SET_CONFIGURATION_ASIDE, (job["job_configuration_id"],))
        why = "restored to the workbook" + (f": {storable_text(reason)}" if reason else "")
        # A skipped job is no longer counted; for a moment it is, so that it can be replaced like any other.
        execute_command("UPDATE irp_job SET skipped = false WHERE id = %s", (job_id,))
        [new_id] = replace_jobs(batch, {job_id: why}, [job], configuration_id)
    return new_id


def skip_job(job_id: int, reason: str | None = None) -> None:
    """Do without a job: its batch no longer waits for it, nor for its configuration.

    A job that is under way is ended. Skipping a skipped job changes nothing. It stays skipped when steps run again,
    until :func:`restore_job`.

    Args:
        job_id: the job.
        reason: why; kept in its tracking log.

    Raises:
        JobError: there is no such job, or another took its place.
        CycleError: its cycle is archived.
        EngineError: the engine cannot be reached to end the job.
    """
    said = storable_text(reason) if reason else None
    batch_id = _require_job(job_id)["batch_id"]
    with lock_batch(batch_id) as batch:
        job = _require_job(job_id)
        if job["skipped"]:
            if _newer_job(job_id) is not None:
                raise _skipped(job_id)
            return
        _end_at_engines(batch, [job])
        execute_command(
            f"""
            WITH skipped AS (
                UPDATE irp_job
                   SET {_SET_ASIDE}
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
    """Ask for a job to be ended. One that has ended is left as it is.

    Returns:
        How it stands then: CANCELLED, CANCEL_REQUESTED while the engine is still at it, or what it had ended as.

    Raises:
        JobError: there is no such job, or it is skipped.
        CycleError: its cycle is archived.
        EngineError: the engine cannot be reached; the next tracking asks it again.
    """
    job = _require_job(job_id)
    if job["skipped"]:
        raise _skipped(job_id)
    cancel_jobs(job["batch_id"], [job_id])
    return track_job_status(job_id)


def requests_of(
    batch: BatchOfJobs, jobs: Iterable[Mapping[str, Any]]
) -> tuple[dict[int, dict[str, Any]], dict[int, JobError]]:
    """Return the requests of jobs by their ids, and why others have none. Each portfolio is read once.

    Args:
        batch: the batch of the jobs.
        jobs: rows with ``id`` and ``job_configuration_data``.
    """
    make = Requests(batch.cycle_id, batch.cycle_name, batch.data_folder, batch.portfolios)
    requests: dict[int, dict[str, Any]] = {}
    refused: dict[int, JobError] = {}
    for job in jobs:
        try:
            requests[job["id"]] = make.of(job["job_configuration_data"])
        except JobError as error:
            refused[job["id"]] = error
    return requests, refused


# --- many jobs of a batch -----------------------------------------------------------------------------------------


def open_batch(batch_id: int) -> BatchOfJobs | None:
    """Return a batch of a cycle that takes work, or None if there is no such batch.

    Raises:
        CycleError: its cycle is archived.
    """
    return _batch(fetch_one(_BATCH, (batch_id,)))


@contextmanager
def lock_batch(batch_id: int) -> Iterator[BatchOfJobs]:
    """Open a transaction in which nobody else changes a batch or its jobs.

    Yields:
        The batch as it stands now.

    Raises:
        JobError: there is no such batch; the block made it ACTIVE while another of the same kind is under way.
        CycleError: its cycle is archived.
    """
    batch = None
    try:
        with transaction():
            batch = _batch(fetch_one(f"{_BATCH} FOR NO KEY UPDATE OF b", (batch_id,)))
            if batch is None:
                raise JobError(f"There is no batch with the id {batch_id}")
            yield batch
    except DatabaseError as error:
        if error.sqlstate != _UNIQUE_VIOLATION or batch is None:
            raise
        other = execute_scalar(
            """
            SELECT id FROM irp_batch
             WHERE configuration_id = %s AND batch_type = %s AND status IN ('INITIATED', 'ACTIVE') AND id <> %s
            """,
            (batch.configuration_id, batch.batch_type, batch.id),
        )
        raise JobError(
            f"The batch {batch.id} cannot become ACTIVE again: the batch {other} of the same configuration and type is "
            "under way. Wait for it, or cancel it"
        ) from error


def submit_jobs(batch_id: int, job_ids: Collection[int] | None = None) -> int:
    """Hand jobs of a batch to their engines.

    Args:
        batch_id: the batch.
        job_ids: only these; those that are skipped or not INITIATED are left alone.

    Returns:
        How many were handed over. One whose request cannot be made or that the engine refuses is ERROR. One with the
        request of a finished job of the cycle has that one's result and is FINISHED.

    Raises:
        JobError: there is no such batch.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away. The same call finishes the work later.
    """
    batch = open_batch(batch_id)
    if batch is None:
        raise JobError(f"There is no batch with the id {batch_id}")
    # Hashing may take long: nobody waits for it.
    requests, refused = requests_of(batch, _select_jobs(batch_id, "j.status = 'INITIATED'", job_ids))
    with lock_batch(batch_id) as batch:
        _write_requests(batch, requests)
    done = _done_before(batch, requests)
    with lock_batch(batch_id) as batch:
        _record(batch, done)
        jobs = _select_jobs(batch_id, "j.status = 'INITIATED'", [*requests, *refused], with_request=True)
        _end_at_engines(batch, [job for job in jobs if job["id"] in refused])
        changes = [
            _refusal(job, refused[job["id"]]) if job["id"] in refused else _hand_over(batch, job) for job in jobs
        ]
        _record(batch, changes)
        execute_command(
            """
            UPDATE irp_batch
               SET status = CASE status WHEN 'INITIATED' THEN 'ACTIVE' ELSE status END,
                   submitted_ts = coalesce(submitted_ts, clock_timestamp())
             WHERE id = %s
            """,
            (batch_id,),
        )
    return sum(change.status is JobStatus.SUBMITTED for change in changes)


def track_jobs(batch_id: int, job_ids: Collection[int] | None = None) -> None:
    """Ask the engines how the unfinished jobs of a batch stand, and write down what has changed.

    A submitted job that its engine does not have is handed over again. One that is being cancelled is cancelled again,
    in case that the first request did not arrive. Of two that track at once, one writes a change down.

    Args:
        batch_id: the batch.
        job_ids: only these; those that are skipped, INITIATED or have ended are left alone.

    Raises:
        JobError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached.
    """
    batch = open_batch(batch_id)
    if batch is None:
        raise JobError(f"There is no batch with the id {batch_id}")
    jobs = _select_jobs(batch_id, _UNDER_WAY, job_ids)
    states = _states(batch, jobs)
    again = [job for job in jobs if JobStatus(job["status"]) in _BEING_CANCELLED and _is_at_work(states[job["id"]])]
    for engine_jobs in _by_engine(again).values():
        batch.engine_of(engine_jobs[0]).cancel([job["job_key"] for job in engine_jobs])
    changes = [change for job in jobs if (change := _change(job, states[job["id"]])) is not None]
    lost = [job for job in jobs if _is_lost(job, states[job["id"]])]
    if not changes and not lost:
        return
    with lock_batch(batch_id) as batch:
        if lost:
            seen = {job["id"]: job["status"] for job in lost}
            still = _select_jobs(batch_id, _UNDER_WAY, list(seen), with_request=True)
            changes += [_hand_over(batch, job) for job in still if job["status"] == seen[job["id"]]]
        _record(batch, changes)


def cancel_jobs(batch_id: int, job_ids: Collection[int] | None = None) -> int:
    """Ask for jobs of a batch to be ended; tracking tells when they have.

    Args:
        batch_id: the batch.
        job_ids: only these; those that are skipped or have ended are left alone.

    Returns:
        How many were asked to end. Those that were not handed over yet are CANCELLED at once.

    Raises:
        JobError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached.
    """
    with lock_batch(batch_id) as batch:
        jobs = _select_jobs(batch_id, f"(j.status = 'INITIATED' OR {_UNDER_WAY})", job_ids)
        waiting = [job for job in jobs if job["status"] == JobStatus.INITIATED]
        _end_at_engines(batch, waiting)
        changes = [
            _Change(
                job["id"],
                job["status"],
                JobStatus.CANCELLED if job["status"] == JobStatus.INITIATED else JobStatus.CANCEL_REQUESTED,
            )
            for job in jobs
            if JobStatus(job["status"]) not in _BEING_CANCELLED
        ]
        _record(batch, changes)
    # Written down first: should the engine not hear of it, tracking tells it again.
    for engine_jobs in _by_engine([job for job in jobs if job not in waiting]).values():
        batch.engine_of(engine_jobs[0]).cancel([job["job_key"] for job in engine_jobs])
    return len(jobs)


def replace_jobs(
    batch: BatchOfJobs,
    reasons: Mapping[int, str | None],
    jobs: Collection[Mapping[str, Any]],
    job_configuration_id: int | None = None,
    *,
    recompute: bool = False,
) -> list[int]:
    """Make a new job in place of each, and the batch ACTIVE again; to be called under :func:`lock_batch`.

    The old ones are kept and skipped, and ended if they are under way.

    Args:
        batch: the locked batch.
        reasons: why, by job; kept in the tracking log of the old ones.
        jobs: unskipped jobs of it, as they stand under the lock.
        job_configuration_id: the job configuration of the new ones; None means that of the old.
        recompute: the engine is to compute them even if their request is that of a finished job.

    Returns:
        The ids of the new jobs, in the order of the old ones' ids.

    Raises:
        EngineError: an engine cannot be reached to end a job.
        DatabaseError: another batch of the same kind is under way, or the database is away.
    """
    if not jobs:
        return []
    _end_at_engines(batch, jobs)
    new = fetch_all(
        f"""
        WITH wanted AS (
            SELECT id, reason FROM jsonb_to_recordset(%s -> 'rows') AS w (id bigint, reason text)
        ), replaced AS (
            UPDATE irp_job
               SET {_SET_ASIDE}
             WHERE id = ANY(%s) AND NOT skipped
            RETURNING id, batch_id, job_configuration_id, status, recompute AND status <> 'FINISHED' AS unfinished
        ), renewed AS (
            INSERT INTO irp_job (batch_id, job_configuration_id, parent_job_id, recompute)
            SELECT batch_id, coalesce(%s::bigint, job_configuration_id), id, %s OR unfinished FROM replaced ORDER BY id
            RETURNING id, parent_job_id
        ), logged AS (
            INSERT INTO irp_job_tracking_log (job_id, status, message)
            SELECT replaced.id, status, 'resubmitted as job ' || renewed.id || coalesce(': ' || wanted.reason, '')
              FROM replaced
              JOIN renewed ON renewed.parent_job_id = replaced.id
              JOIN wanted ON wanted.id = replaced.id
             ORDER BY replaced.id
        )
        SELECT id FROM renewed ORDER BY parent_job_id
        """,  # noqa: S608
        (
            {"rows": [{"id": job["id"], "reason": reasons.get(job["id"]) or None} for job in jobs]},
            [job["id"] for job in jobs],
            job_configuration_id,
            recompute,
        ),
    )
    execute_command(
        """
        UPDATE irp_batch SET status = 'ACTIVE', completed_ts = NULL
         WHERE id = %s AND status NOT IN ('INITIATED', 'ACTIVE')
        """,
        (batch.id,),
    )
    return [row["id"] for row in new]


# --- what a job left ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResultFile:
    """A result file of a finished job.

    Attributes:
        path: where it is on this machine, or should be.
        sha256: of its bytes; None for a job that ended before hashes were kept.
        bytes: its size; likewise.
    """

    path: Path
    sha256: str | None
    bytes: int | None

    def difference(self) -> str | None:
        """Say how the file differs from what its job left; None if it is that file."""
        if self.sha256 is None or self.bytes is None:
            return None if self.path.is_file() else "is not on this machine"
        return difference(self.path, self.sha256, self.bytes)


def result_files(result: Mapping[str, Any], folder: Path) -> dict[str, ResultFile]:
    """Return the result files of a finished job by name.

    Args:
        result: what its engine reported.
        folder: where the engine keeps the job's files.

    Raises:
        ValueError: a file is outside of the folder.
    """
    files = {}
    for name, entry in (result.get("files") or {}).items():
        is_known = isinstance(entry, Mapping)
        path = folder / str(entry["path"] if is_known else entry)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"the file {name} is outside of the job's folder")
        files[str(name)] = ResultFile(path, *((entry["sha256"], entry["bytes"]) if is_known else (None, None)))
    return files


def changed_file(job: Mapping[str, Any], cycle_name: str) -> str | None:
    """Say which result file of a finished job is missing on this machine or differs; None if all are as it left them.

    Args:
        job: a row with ``job_configuration_data``, ``work_key`` and ``result_data``.
        cycle_name: the job's cycle.
    """
    try:
        folder = _engine_of(cycle_name, job["job_configuration_data"]).folder(job["work_key"])
        files = result_files(job["result_data"] or {}, folder)
    except (EngineError, ValueError, KeyError, TypeError) as error:
        return f"its result cannot be read: {error}"
    for file in files.values():
        if (differs := file.difference()) is not None:
            return f"its file {file.path.name} {differs}"
    return None


def _done_before(batch: BatchOfJobs, job_ids: Collection[int]) -> list[_Change]:
    """Give each job that waits to be handed over the result of a finished job with the same request, if there is one.

    Where such a job's files are no longer as it left them, the work is done again.
    """
    rows = fetch_all(
        f"""
        SELECT j.id, d.id AS work_job_id, d.job_key AS work_key, d.result_data, c.job_configuration_data
          FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
          JOIN irp_job d ON d.request_data - {PLACES} = j.request_data - {PLACES}
                        AND d.status = 'FINISHED' AND d.work_job_id IS NULL
          JOIN irp_batch db ON db.id = d.batch_id
          JOIN irp_configuration df ON df.id = db.configuration_id AND df.cycle_id = %s
         WHERE j.batch_id = %s AND j.id = ANY(%s) AND j.status = 'INITIATED' AND NOT j.skipped AND NOT j.recompute
         ORDER BY j.id, d.id DESC
        """,  # noqa: S608
        (batch.cycle_id, batch.id, list(job_ids)),
    )
    changes: dict[int, _Change] = {}
    for row in rows:
        if row["id"] not in changes and changed_file(row, batch.cycle_name) is None:
            changes[row["id"]] = _Change(
                row["id"],
                JobStatus.INITIATED,
                JobStatus.FINISHED,
                f"has the result of job {row['work_job_id']}, which had the same request",
                row["result_data"],
                row["work_job_id"],
            )
    return list(changes.values())


# --- how it is done -----------------------------------------------------------------------------------------------

_UNDER_WAY: Final = "j.status NOT IN ('INITIATED', 'FINISHED', 'FAILED', 'CANCELLED', 'ERROR')"


@dataclass(frozen=True)
class _Change:
    """A job that was seen in one status and goes to another."""

    job_id: int
    seen: str
    status: JobStatus
    message: str | None = None
    result: dict[str, Any] | None = None
    work_job_id: int | None = None


def _batch(row: dict[str, Any] | None) -> BatchOfJobs | None:
    if row is None:
        return None
    if row.pop("cycle_status") != CycleStatus.ACTIVE:
        require_open_cycle(row["cycle_name"])
    return BatchOfJobs(
        **{
            **row,
            "status": BatchStatus(row["status"]),
            "data_folder": data_folder(row["cycle_name"], row["data_folder"]),
            "portfolios": tuple(row["portfolios"] or ()),
        },
    )


def _select_jobs(
    batch_id: int, condition: str, job_ids: Collection[int] | None, *, with_request: bool = False
) -> list[dict[str, Any]]:
    """Return unskipped jobs of a batch; their requests, which are long, only if asked for."""
    return fetch_all(
        f"""
        SELECT {_JOB_COLUMNS}, j.request_data IS NOT NULL AS has_request {", j.request_data" if with_request else ""}
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s AND NOT j.skipped AND {condition} AND (%s::bigint[] IS NULL OR j.id = ANY(%s))
         ORDER BY j.id
        """,  # noqa: S608
        (batch_id, *(2 * (None if job_ids is None else list(job_ids),))),
    )


def _write_requests(batch: BatchOfJobs, requests: Mapping[int, dict[str, Any]]) -> None:
    """Keep what is about to be handed over. A job that may have gone to its engine with another request starts anew."""
    rows = {"rows": [{"id": job_id, "request": request} for job_id, request in requests.items()]}
    changed = fetch_all(
        f"""
        SELECT {_JOB_COLUMNS}, true AS has_request
          FROM jsonb_to_recordset(%s -> 'rows') AS r (id bigint, request jsonb)
          JOIN irp_job j ON j.id = r.id
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s AND j.status = 'INITIATED' AND NOT j.skipped AND j.request_data <> r.request
        """,  # noqa: S608
        (rows, batch.id),
    )
    _end_at_engines(batch, changed)
    execute_command(
        """
        UPDATE irp_job j
           SET request_data = r.request,
               job_key = CASE WHEN j.request_data IS NULL THEN j.job_key ELSE gen_random_uuid()::text END
          FROM jsonb_to_recordset(%s -> 'rows') AS r (id bigint, request jsonb)
         WHERE j.batch_id = %s AND j.id = r.id AND j.status = 'INITIATED' AND NOT j.skipped
           AND j.request_data IS DISTINCT FROM r.request
        """,
        (rows, batch.id),
    )


def _hand_over(batch: BatchOfJobs, job: Mapping[str, Any]) -> _Change:
    if job["request_data"] is None:
        return _refusal(job, JobError("Nothing was kept of what the engine was given. Resubmit the job"))
    try:
        batch.engine_of(job).submit(job["job_key"], job["request_data"])
    except EngineError as error:
        return _refusal(job, error)
    return _Change(job["id"], job["status"], JobStatus.SUBMITTED)


def _refusal(job: Mapping[str, Any], error: IrpError) -> _Change:
    return _Change(job["id"], job["status"], JobStatus.ERROR, str(error))


def _change(job: Mapping[str, Any], state: JobState) -> _Change | None:
    """Return what an engine's answer changes; None if it changes nothing."""
    status = JobStatus(job["status"])
    if status in _BEING_CANCELLED and _is_at_work(state):
        return None
    if state.phase is JobPhase.UNKNOWN:
        return _Change(job["id"], status, JobStatus.CANCELLED) if status in _BEING_CANCELLED else None
    if state.phase is JobPhase.FINISHED:
        fault = check_result(state.result, currency=job["job_configuration_data"].get("currency"))
        if fault is not None:
            return _Change(job["id"], status, JobStatus.FAILED, f"What the engine reported is not a result: {fault}")
    new = _STATUS_OF_PHASE[state.phase]
    return None if new is status else _Change(job["id"], status, new, state.message, state.result)


def _is_lost(job: Mapping[str, Any], state: JobState) -> bool:
    return state.phase is JobPhase.UNKNOWN and JobStatus(job["status"]) not in _BEING_CANCELLED


def _is_at_work(state: JobState) -> bool:
    return state.phase in {JobPhase.QUEUED, JobPhase.RUNNING}


def _record(batch: BatchOfJobs, changes: Iterable[_Change]) -> None:
    """Write changes down, each with a row in the tracking log, if the job still stands as it was seen."""
    rows = [
        {
            "id": change.job_id,
            "seen": change.seen,
            "status": change.status,
            "message": change.message and storable_text(change.message, _LONGEST_MESSAGE),
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


def _end_at_engines(batch: BatchOfJobs, jobs: Iterable[Mapping[str, Any]]) -> None:
    """End what the engines still do for jobs.

    A job that is INITIATED or ERROR may be at its engine all the same: whoever handed it over may have died before he
    could write that down, or have had no answer.
    """
    unfinished = [
        job
        for job in jobs
        if (job["has_request"] if job["status"] in _PERHAPS_AT_ENGINE else not JobStatus(job["status"]).is_terminal)
    ]
    for engine_jobs in _by_engine(unfinished).values():
        try:
            risk_engine = batch.engine_of(engine_jobs[0])
        except EngineError:  # an engine that is not there does nothing
            continue
        states = risk_engine.states([job["job_key"] for job in engine_jobs])
        if at_work := [key for key, state in states.items() if _is_at_work(state)]:
            risk_engine.cancel(at_work)


def _states(batch: BatchOfJobs, jobs: Iterable[Mapping[str, Any]]) -> dict[int, JobState]:
    """Ask each engine once for all of its jobs; return their states by job id."""
    states: dict[int, JobState] = {}
    for engine_jobs in _by_engine(jobs).values():
        by_key = batch.engine_of(engine_jobs[0]).states([job["job_key"] for job in engine_jobs])
        states |= {job["id"]: by_key[job["job_key"]] for job in engine_jobs}
    return states


def _by_engine(jobs: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for job in jobs:
        grouped[str(job["job_configuration_data"].get("engine"))].append(job)
    return grouped


def _engine_of(cycle_name: str, job_configuration_data: Mapping[str, Any]) -> RiskEngine:
    name = job_configuration_data.get("engine")
    if not isinstance(name, str):
        raise EngineError(f"The job's parameter 'engine' is {name!r}, but must name a risk engine")
    return engine(name, settings.cycle_dir(get_current_schema(), cycle_name) / "jobs")


def _require_job(job_id: int) -> dict[str, Any]:
    job = fetch_one(
        f"""
        SELECT {_JOB_COLUMNS}, c.workbook_data, j.request_data IS NOT NULL AS has_request, cy.cycle_name,
               coalesce(w.job_key, j.job_key) AS work_key
          FROM {_JOB_AND_ABOVE}
         WHERE j.id = %s
        """,  # noqa: S608
        (job_id,),
    )
    if job is None:
        raise _no_job(job_id)
    return job


def _require_idle(job_id: int) -> dict[str, Any]:
    """Return a job that can be replaced: one that has ended, or was not handed over yet."""
    job = _require_job(job_id)
    status = JobStatus(job["status"])
    if not job["skipped"] and not status.is_terminal and status is not JobStatus.INITIATED:
        raise JobError(f"The job {job_id} is under way ({status}): cancel it first, and resubmit it when it has ended")
    return job


def _workbook_parameters(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that the workbook gives for a job, whatever a person gave since."""
    if not job["overridden"]:
        return dict(job["job_configuration_data"])
    if job["workbook_data"] is None:
        raise JobError(f"The workbook's parameters of the job {job['id']} are not recorded")
    return dict(job["workbook_data"])


def _no_job(job_id: int) -> JobError:
    return JobError(f"There is no job with the id {job_id} in schema {get_current_schema()!r}")


def _status_of(job_id: int) -> JobStatus:
    return JobStatus(_require_job(job_id)["status"])


def _newer_job(job_id: int) -> int | None:
    newer: int | None = execute_scalar("SELECT max(id) FROM irp_job WHERE parent_job_id = %s", (job_id,))
    return newer


def _skipped(job_id: int) -> JobError:
    newer = _newer_job(job_id)
    if newer is None:
        return JobError(f"The job {job_id} is skipped: the batch does without it")
    return JobError(f"The job {job_id} was resubmitted already: the job {newer} took its place")


def jobs_doing(batch_id: int) -> dict[str, str]:
    """Return what engines say they are doing for jobs under way, by the name of the job's analysis; for people.

    Raises:
        CycleError: the batch's cycle is archived.
        EngineError: an engine cannot be reached.
    """
    batch = open_batch(batch_id)
    if batch is None:
        return {}
    jobs = _select_jobs(batch_id, _UNDER_WAY, None)
    states = _states(batch, jobs)
    return {
        str(job["job_configuration_data"].get("name", f"job {job['id']}")): storable_text(
            state.message, _LONGEST_MESSAGE
        )
        for job in jobs
        if (state := states[job["id"]]).phase is JobPhase.RUNNING and state.message
    }
