"""Handing jobs of a batch to their risk engines, following them there, and ending or replacing them.

The number of statements does not depend on the number of jobs. Every change to a job holds its batch's lock, so that
changes to a batch happen one after the other. The request of a job is recorded before it goes to the engine, together
with its key: after a crash at any point, the same request is handed over again under the same key, and the engine has
it once. A job whose request has changed since then gets another key.

:mod:`irp_pipeline.helpers.job_request` makes the request of a job; :mod:`irp_pipeline.helpers.job` handles single jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from irp_pipeline.engines import EngineError, JobPhase, JobState, RiskEngine, UnknownEngineError
from irp_pipeline.helpers.batch_of_jobs import BatchOfJobs, lock_batch, open_batch
from irp_pipeline.helpers.constants import JobStatus
from irp_pipeline.helpers.earlier_results import EarlierResults
from irp_pipeline.helpers.job_changes import (
    BEING_CANCELLED,
    LONGEST_MESSAGE,
    Change,
    change_of,
    is_at_work,
    record,
    refusal,
)
from irp_pipeline.helpers.job_record import JOB_COLUMNS, JOBS, FinishedJob, Job
from irp_pipeline.helpers.job_request import JobError, Requests, places
from irp_pipeline.helpers.job_result import changed_file
from irp_pipeline.helpers.record import record_of
from irp_pipeline.helpers.wanted import declared_batch_type
from irp_pipeline.postgres.parameters import storable_text
from irp_pipeline.postgres.running import execute_command, fetch_all

_PERHAPS_AT_ENGINE: Final = frozenset({JobStatus.INITIATED, JobStatus.ERROR})

UNDER_WAY: Final = "j.status NOT IN ('INITIATED', 'FINISHED', 'FAILED', 'CANCELLED', 'ERROR')"

# Sets a job aside, so that its batch no longer counts it; if it was under way, it has been ended.
SET_ASIDE = """
    skipped = true,
    status = CASE WHEN status IN ('INITIATED', 'FINISHED', 'FAILED', 'CANCELLED', 'ERROR')
                  THEN status ELSE 'CANCELLED' END,
    completed_ts = CASE WHEN status = 'INITIATED' THEN completed_ts
                        ELSE coalesce(completed_ts, clock_timestamp()) END
"""


def submit_jobs(batch_id: int, job_ids: Collection[int] | None = None) -> int:
    """Hand jobs of a batch to their engines.

    Args:
        batch_id: the batch.
        job_ids: only these; jobs that are skipped or not INITIATED stay as they are.

    Returns:
        How many were handed over. A job whose request cannot be made, or that the engine refuses, becomes ERROR. A job
        with the same request as a finished job of the cycle gets that job's result and becomes FINISHED.

    Raises:
        JobError: there is no such batch.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away. Repeat the call later to finish the work.
    """
    batch = open_batch(batch_id)
    if batch is None:
        raise JobError(f"There is no batch with the id {batch_id}")
    # Hashing may take long, so no lock is held here.
    waiting = select_jobs(batch_id, "j.status = 'INITIATED'", job_ids)
    requests, refused = requests_of(batch, {job.id: job.job_configuration_data for job in waiting})
    with lock_batch(batch_id) as batch:
        _write_requests(batch, requests)
    done = _done_before(batch, requests)
    with lock_batch(batch_id) as batch:
        record(batch, done)
        jobs = select_jobs(batch_id, "j.status = 'INITIATED'", [*requests, *refused], with_request=True)
        end_at_engines(batch, [job for job in jobs if job.id in refused])
        changes = [refusal(job, str(refused[job.id])) for job in jobs if job.id in refused]
        changes += _hand_over(batch, [job for job in jobs if job.id not in refused])
        record(batch, changes)
        execute_command(
            """
            UPDATE irp_batch
               SET status = CASE status WHEN 'INITIATED' THEN 'ACTIVE' ELSE status END,
                   submitted_ts = coalesce(submitted_ts, clock_timestamp())
             WHERE id = %s
            """,
            (batch_id,),
        )
    _wake(batch, jobs, changes)
    return sum(change.status is JobStatus.SUBMITTED for change in changes)


def track_jobs(batch_id: int, job_ids: Collection[int] | None = None) -> None:
    """Ask the engines for the status of the unfinished jobs of a batch, and record the changes.

    A submitted job that its engine does not have is handed over again. A job that is being cancelled is cancelled
    again, in case the first request did not arrive. If two callers track at once, only one records a change. An engine
    that cannot be reached does not keep the jobs of others from being followed.

    Args:
        batch_id: the batch.
        job_ids: only these; jobs that are skipped, INITIATED or have ended stay as they are.

    Raises:
        JobError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached. The jobs of the others are recorded.
    """
    batch = open_batch(batch_id)
    if batch is None:
        raise JobError(f"There is no batch with the id {batch_id}")
    asked = select_jobs(batch_id, UNDER_WAY, job_ids)
    states, unreachable = _states(batch, asked)
    jobs = [job for job in asked if job.id in states]
    unreachable += _cancel(batch, [job for job in jobs if job.status in BEING_CANCELLED and is_at_work(states[job.id])])
    changes = [change for job in jobs if (change := change_of(job, states[job.id])) is not None]
    lost = [job for job in jobs if _is_lost(job, states[job.id])]
    if changes or lost:
        again: list[Job] = []
        with lock_batch(batch_id) as batch:
            if lost:
                seen = {job.id: job.status for job in lost}
                still = select_jobs(batch_id, UNDER_WAY, list(seen), with_request=True)
                again = [job for job in still if job.status is seen[job.id]]
                changes += _hand_over(batch, again)
            record(batch, changes)
        _wake(batch, again, changes)
    _refuse_silence(unreachable)


def cancel_jobs(batch_id: int, job_ids: Collection[int] | None = None) -> int:
    """Ask the engines to end jobs of a batch; tracking records when they have ended.

    Args:
        batch_id: the batch.
        job_ids: only these; jobs that are skipped or have ended stay as they are.

    Returns:
        How many the engines were asked to end. Jobs that were not handed over yet become CANCELLED at once.

    Raises:
        JobError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached.
    """
    with lock_batch(batch_id) as batch:
        jobs = select_jobs(batch_id, f"(j.status = 'INITIATED' OR {UNDER_WAY})", job_ids)
        waiting = [job for job in jobs if job.status is JobStatus.INITIATED]
        end_at_engines(batch, waiting)
        changes = [
            Change(
                job.id,
                job.status,
                JobStatus.CANCELLED if job.status is JobStatus.INITIATED else JobStatus.CANCEL_REQUESTED,
            )
            for job in jobs
            if job.status not in BEING_CANCELLED
        ]
        record(batch, changes)
    # Recorded first: if the request does not reach the engine, tracking repeats it.
    _refuse_silence(_cancel(batch, [job for job in jobs if job not in waiting]))
    return len(jobs)


def replace_jobs(
    batch: BatchOfJobs,
    reasons: Mapping[int, str | None],
    jobs: Collection[Job],
    job_configuration_id: int | None = None,
    *,
    recompute: bool = False,
) -> list[int]:
    """Replace each job by a new one, and make the batch ACTIVE again; call it under :func:`lock_batch`.

    The old jobs are kept and skipped, and ended if they are under way.

    Args:
        batch: the locked batch.
        reasons: why, by job; recorded in the tracking log of the old jobs.
        jobs: unskipped jobs of the batch, read under the lock.
        job_configuration_id: the job configuration of the new jobs; None means that of the old ones.
        recompute: whether the engine must compute them even if a finished job had the same request.

    Returns:
        The ids of the new jobs, in the order of the old ones' ids.

    Raises:
        EngineError: an engine cannot be reached to end a job.
        DatabaseError: another batch of the same kind is under way, or the database is away.
    """
    if not jobs:
        return []
    end_at_engines(batch, jobs)
    new = fetch_all(
        f"""
        WITH wanted AS (
            SELECT id, reason FROM jsonb_to_recordset(%s -> 'rows') AS w (id bigint, reason text)
        ), replaced AS (
            UPDATE irp_job
               SET {SET_ASIDE}
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
            {"rows": [{"id": job.id, "reason": reasons.get(job.id) or None} for job in jobs]},
            [job.id for job in jobs],
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


def jobs_doing(batch_id: int) -> dict[str, str]:
    """Return what engines are doing for jobs under way, in words, by the name of the job's analysis.

    Raises:
        CycleError: the batch's cycle is archived.
        EngineError: an engine cannot be reached.
    """
    batch = open_batch(batch_id)
    if batch is None:
        return {}
    jobs = select_jobs(batch_id, UNDER_WAY, None)
    states, unreachable = _states(batch, jobs)
    _refuse_silence(unreachable)
    return {
        (job.analysis or f"job {job.id}"): storable_text(state.message, LONGEST_MESSAGE)
        for job in jobs
        if (state := states[job.id]).phase is JobPhase.RUNNING and state.message
    }


def requests_of(
    batch: BatchOfJobs, parameters: Mapping[int, Mapping[str, Any]]
) -> tuple[dict[int, dict[str, Any]], dict[int, JobError]]:
    """Return the requests of jobs, and why some jobs have none, by the id of the job. Each portfolio is read once.

    Args:
        batch: the batch of the jobs.
        parameters: those of each job, by its id.
    """
    declared = declared_batch_type(batch.batch_type)
    make = Requests(
        batch.cycle_id,
        batch.cycle_name,
        batch.data_folder,
        batch.portfolios,
        needs_portfolio=declared.needs_portfolio,
        earlier=None if declared.after is None else EarlierResults(batch.cycle_id, batch.cycle_name, declared.after),
    )
    requests: dict[int, dict[str, Any]] = {}
    refused: dict[int, JobError] = {}
    for job_id, of_job in parameters.items():
        try:
            requests[job_id] = make.of(of_job)
        except JobError as error:
            refused[job_id] = error
    return requests, refused


def _done_before(batch: BatchOfJobs, job_ids: Collection[int]) -> list[Change]:
    """Give each job that waits to be handed over the result of a finished job with the same request, if there is one.

    If the files of the finished job have changed, the work is done again.
    """
    rows = fetch_all(
        f"""
        SELECT j.id AS waiting_id, d.id, d.job_key AS work_key, d.result_data, c.job_configuration_data
          FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
          JOIN irp_job d ON d.request_data - {places()} = j.request_data - {places()}
                        AND d.status = 'FINISHED' AND d.work_job_id IS NULL
          JOIN irp_batch db ON db.id = d.batch_id
          JOIN irp_configuration df ON df.id = db.configuration_id AND df.cycle_id = %s
         WHERE j.batch_id = %s AND j.id = ANY(%s) AND j.status = 'INITIATED' AND NOT j.skipped AND NOT j.recompute
         ORDER BY j.id, d.id DESC
        """,  # noqa: S608
        (batch.cycle_id, batch.id, list(job_ids)),
    )
    changes: dict[int, Change] = {}
    for row in rows:
        job_id = row.pop("waiting_id")
        done = FinishedJob(**row)
        if job_id not in changes and changed_file(done, batch.cycle_name) is None:
            changes[job_id] = Change(
                job_id,
                JobStatus.INITIATED,
                JobStatus.FINISHED,
                f"has the result of job {done.id}, which had the same request",
                done.result_data,
                done.id,
            )
    return list(changes.values())


def select_jobs(
    batch_id: int, condition: str, job_ids: Collection[int] | None, *, with_request: bool = False
) -> list[Job]:
    """Return unskipped jobs of a batch; with their requests, which are long, only on request."""
    rows = fetch_all(
        f"""
        SELECT {JOB_COLUMNS} {", j.request_data" if with_request else ""}
          FROM {JOBS}
         WHERE j.batch_id = %s AND NOT j.skipped AND {condition} AND (%s::bigint[] IS NULL OR j.id = ANY(%s))
         ORDER BY j.id
        """,  # noqa: S608
        (batch_id, *(2 * (None if job_ids is None else list(job_ids),))),
    )
    return [record_of(Job, row) for row in rows]


def _write_requests(batch: BatchOfJobs, requests: Mapping[int, dict[str, Any]]) -> None:
    """Record requests before the handover. A job that its engine may have with another request gets a new key."""
    rows = {"rows": [{"id": job_id, "request": request} for job_id, request in requests.items()]}
    changed = fetch_all(
        f"""
        SELECT {JOB_COLUMNS}
          FROM {JOBS}
          JOIN jsonb_to_recordset(%s -> 'rows') AS r (id bigint, request jsonb) ON r.id = j.id
         WHERE j.batch_id = %s AND j.status = 'INITIATED' AND NOT j.skipped AND j.request_data <> r.request
        """,  # noqa: S608
        (rows, batch.id),
    )
    end_at_engines(batch, [record_of(Job, row) for row in changed])
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


def _hand_over(batch: BatchOfJobs, jobs: Iterable[Job]) -> list[Change]:
    """Hand jobs over to their engines, in the transaction that records it; call :func:`_wake` after that."""
    changes = []
    for engine_jobs in _by_engine(jobs).values():
        requests = {job.job_key: job.request_data for job in engine_jobs if job.request_data is not None}
        try:
            refused = batch.engine_of(engine_jobs[0]).submit(requests) if requests else {}
        except UnknownEngineError as error:
            refused = dict.fromkeys(requests, str(error))
        for job in engine_jobs:
            if job.request_data is None:
                changes.append(refusal(job, "Nothing was kept of what the engine was given. Resubmit the job"))
            elif job.job_key in refused:
                changes.append(refusal(job, refused[job.job_key]))
            else:
                changes.append(Change(job.id, job.status, JobStatus.SUBMITTED))
    return sorted(changes, key=lambda change: change.job_id)


def _wake(batch: BatchOfJobs, jobs: Iterable[Job], changes: Collection[Change]) -> None:
    """Let the engines begin with the jobs that were handed over."""
    handed_over = {change.job_id for change in changes if change.status is JobStatus.SUBMITTED}
    for engine_jobs in _by_engine(job for job in jobs if job.id in handed_over).values():
        batch.engine_of(engine_jobs[0]).wake()


def _is_lost(job: Job, state: JobState) -> bool:
    return state.phase is JobPhase.UNKNOWN and job.status not in BEING_CANCELLED


def end_at_engines(batch: BatchOfJobs, jobs: Iterable[Job]) -> None:
    """Make the engines end their work on jobs.

    Even an INITIATED or ERROR job may be at its engine: the process that handed it over may have died before it could
    record that, or may have had no answer.
    """
    unfinished = [
        job for job in jobs if (job.has_request if job.status in _PERHAPS_AT_ENGINE else not job.status.is_terminal)
    ]
    for engine_jobs in _by_engine(unfinished).values():
        try:
            risk_engine = batch.engine_of(engine_jobs[0])
        except UnknownEngineError:  # an engine that does not exist cannot be at work
            continue
        states = risk_engine.states([job.job_key for job in engine_jobs])
        if at_work := [key for key, state in states.items() if is_at_work(state)]:
            risk_engine.cancel(at_work)


def _states(batch: BatchOfJobs, jobs: Iterable[Job]) -> tuple[dict[int, JobState], list[EngineError]]:
    """Ask each engine once for all of its jobs; return their states by job id, and why some have none."""
    states: dict[int, JobState] = {}

    def ask(risk_engine: RiskEngine, of_engine: Mapping[str, Job]) -> None:
        states.update({of_engine[key].id: state for key, state in risk_engine.states(list(of_engine)).items()})

    return states, _tell_engines(batch, jobs, ask)


def _cancel(batch: BatchOfJobs, jobs: Iterable[Job]) -> list[EngineError]:
    """Ask each engine to end its jobs; return why some could not be asked."""
    return _tell_engines(batch, jobs, lambda risk_engine, of_engine: risk_engine.cancel(list(of_engine)))


def _tell_engines(
    batch: BatchOfJobs, jobs: Iterable[Job], tell: Callable[[RiskEngine, Mapping[str, Job]], None]
) -> list[EngineError]:
    """Call a function with each engine and its jobs by key; return the errors of those that cannot be reached."""
    unreachable = []
    for engine_jobs in _by_engine(jobs).values():
        try:
            tell(batch.engine_of(engine_jobs[0]), {job.job_key: job for job in engine_jobs})
        except EngineError as error:
            unreachable.append(error)
    return unreachable


def _refuse_silence(unreachable: Sequence[EngineError]) -> None:
    """Raise if engines could not be reached."""
    if unreachable:
        raise EngineError("\n".join(map(str, unreachable))) from unreachable[0]


def _by_engine(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    grouped: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        grouped[str(job.engine)].append(job)
    return grouped
