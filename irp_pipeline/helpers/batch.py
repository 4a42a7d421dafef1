"""Batches: all the jobs of one type that one configuration asks for.

A batch is handed over, tracked and reconciled as a whole. :mod:`irp_pipeline.helpers.job` handles single jobs,
:mod:`irp_pipeline.helpers.renewal` jobs that must run again, and :mod:`irp_pipeline.helpers.batch_lookup` finds
batches; its names can also be imported from here. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from irp_pipeline.helpers.batch_lookup import (
    Batch,
    asks_for,
    batch_job_as_dict,
    batches_of_cycle,
    batches_under_way,
    current_batch,
    find_batch,
    find_current_batch,
    get_batch_jobs,
    jobs_of_batch,
    list_batches,
    may_begin,
    newest_batch,
    read_batch,
)
from irp_pipeline.helpers.batch_of_jobs import NO_CLIENT, BatchError, lock_batch, require_open_batch
from irp_pipeline.helpers.constants import BatchStatus, JobStatus
from irp_pipeline.helpers.handover import cancel_jobs, submit_jobs, track_jobs
from irp_pipeline.helpers.renewal import outdated_jobs, renew_batch
from irp_pipeline.helpers.wanted import Wish, declared_batch_type, transformer, wanted_hash, wanted_of, wishes_of
from irp_pipeline.postgres.running import (
    bulk_insert,
    execute_command,
    execute_insert,
    execute_scalar,
    fetch_all,
    fetch_one,
    transaction,
)

__all__ = [
    "Batch",
    "BatchError",
    "batch_job_as_dict",
    "batches_of_cycle",
    "batches_under_way",
    "cancel_batch",
    "create_batch",
    "current_batch",
    "ensure_batch",
    "ensure_batch_of",
    "find_batch",
    "find_current_batch",
    "get_batch_jobs",
    "jobs_of_batch",
    "list_batches",
    "outdated_jobs",
    "read_batch",
    "recon_batch",
    "renew_batch",
    "submit_batch",
    "track_batch",
    "transformer",
]


def create_batch(batch_type: str, configuration_id: int, step_id: int) -> int:
    """Make a batch with all its job configurations and jobs, in one transaction.

    Args:
        batch_type: a declared type (:mod:`irp_pipeline.helpers.wanted`), which says what the jobs are.
        configuration_id: the configuration that asks for them.
        step_id: the step that makes the batch.

    Returns:
        The id of the batch. If the configuration has an INITIATED or ACTIVE batch of this type, the id of that.

    Raises:
        BatchError: no transformer for the type, or no such configuration with valid data.
        DatabaseError: the database refuses or is away.
    """
    with transaction():
        _, configuration = _lock_configuration(configuration_id)
        under_way: int | None = execute_scalar(
            """
            SELECT id FROM irp_batch
             WHERE configuration_id = %s AND batch_type = %s AND status IN ('INITIATED', 'ACTIVE')
            """,
            (configuration_id, batch_type),
        )
        if under_way is not None:
            return under_way
        wanted = wanted_of(batch_type, configuration)
        return _make_batch(batch_type, configuration_id, step_id, wanted, [Wish(item) for item in wanted])


def ensure_batch(batch_type: str, configuration_id: int, step_id: int) -> int:
    """Make sure that the newest batch of a cycle has the jobs that a configuration asks for.

    A batch that has them stays, whatever the status of its jobs. If other jobs are wanted, a new batch is made. It
    takes over what a person changed, by the name of the analysis: overridden parameters and skipped jobs.

    Args and errors as for :func:`create_batch`.

    Returns:
        The id of the batch.
    """
    with transaction():
        cycle_id, configuration = _lock_configuration(configuration_id)
        newest = newest_batch(cycle_id, batch_type)
        if newest is not None and asks_for(newest, configuration_id, configuration):
            return newest.id
        wanted = wanted_of(batch_type, configuration)
        by_name = {} if newest is None else wishes_of(newest.id)
        wishes = [by_name[name].over(item) if (name := item.get("name")) in by_name else Wish(item) for item in wanted]
        return _make_batch(batch_type, configuration_id, step_id, wanted, wishes)


def ensure_batch_of(
    batch_type: str,
    configuration_id: int,
    step_id: int,
    wanted: Collection[Mapping[str, Any]],
    *,
    recompute: bool = False,
    anew: bool = False,
) -> int:
    """Make sure that the newest batch of a type that a cycle has, has exactly these jobs.

    For types whose jobs do not come from a workbook.

    Args:
        batch_type: a declared type.
        configuration_id: a configuration of the cycle.
        step_id: the step for which the batch is made.
        wanted: the parameters of each job.
        recompute: let the engine compute all jobs, even if a finished one had the same request.
        anew: make a new batch even if the newest one has these jobs.

    Returns:
        The id of the batch.

    Raises:
        BatchError: a batch of the type with other jobs is under way; or no such type or configuration.
        DatabaseError: the database refuses or is away.
    """
    declared_batch_type(batch_type)
    with transaction():
        cycle_id, _ = _lock_configuration(configuration_id)
        newest = newest_batch(cycle_id, batch_type)
        if newest is not None:
            is_under_way = newest.status in {BatchStatus.INITIATED, BatchStatus.ACTIVE}
            if newest.wanted_hash == wanted_hash(wanted) and (is_under_way or not anew):
                return newest.id
            if is_under_way:
                raise BatchError(
                    f"The batch {newest.id} of the type {batch_type} is under way for other jobs. Wait for its end, or "
                    f"end it: irp batch cancel {newest.id}"
                )
        return _make_batch(batch_type, configuration_id, step_id, wanted, map(Wish, wanted), recompute=recompute)


def _lock_configuration(configuration_id: int) -> tuple[int, Mapping[str, Any]]:
    """Lock the cycle of a configuration, and return the cycle and the configuration's data.

    Batches for a cycle are made one at a time: a second caller finds the batch of the first.
    """
    row = fetch_one(
        """
        SELECT f.cycle_id, f.configuration_data
          FROM irp_configuration f JOIN irp_cycle c ON c.id = f.cycle_id
         WHERE f.id = %s AND f.configuration_data IS NOT NULL FOR NO KEY UPDATE OF c
        """,
        (configuration_id,),
    )
    if row is None:
        raise BatchError(f"There is no valid configuration with the id {configuration_id}")
    return row["cycle_id"], row["configuration_data"]


def _make_batch(
    batch_type: str,
    configuration_id: int,
    step_id: int,
    wanted: Iterable[Mapping[str, Any]],
    wishes: Iterable[Wish],
    *,
    recompute: bool = False,
) -> int:
    batch_id: int = execute_insert(
        """
        INSERT INTO irp_batch (configuration_id, step_id, batch_type, wanted_hash) VALUES (%s, %s, %s, %s)
        RETURNING id
        """,
        (configuration_id, step_id, batch_type, wanted_hash(wanted)),
    )
    bulk_insert(
        """
        INSERT INTO irp_job_configuration (batch_id, job_configuration_data, workbook_data, overridden, override_reason,
                                           skipped, skipped_reason)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (
            (
                batch_id,
                dict(wish.parameters),
                None if wish.workbook is None else dict(wish.workbook),
                wish.workbook is not None,
                wish.override_reason,
                wish.skipped,
                wish.skipped_reason,
            )
            for wish in wishes
        ),
    )
    execute_command(
        """
        INSERT INTO irp_job (batch_id, job_configuration_id, skipped, recompute)
        SELECT batch_id, id, skipped, %s FROM irp_job_configuration WHERE batch_id = %s ORDER BY id
        """,
        (recompute, batch_id),
    )
    return batch_id


def submit_batch(batch_id: int, job_ids: Collection[int] | None = None) -> int:
    """Hand the INITIATED jobs of a batch to their engines.

    Safe to repeat, even after a crash at any point: a job goes to its engine under the same key.

    Args:
        batch_id: the batch.
        job_ids: only these of its jobs; jobs that are skipped or not INITIATED stay as they are.

    Returns:
        How many were handed over. A job becomes ERROR with a message if its request cannot be made or its engine
        refuses it; the other jobs continue.

    Raises:
        BatchError: there is no such batch, or it has no such jobs; or its predecessor is not complete.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    batch = require_open_batch(batch_id)
    if job_ids is not None and not isinstance(job_ids, Collection):  # the client of the old framework
        raise BatchError(NO_CLIENT)
    if job_ids is not None:
        _refuse_jobs_of_others(batch_id, job_ids)
    if not may_begin(batch.cycle_id, batch.batch_type):
        raise BatchError(
            f"The batch {batch_id} of the type {batch.batch_type} begins when the batch of the type "
            f"{declared_batch_type(batch.batch_type).after} is complete. irp run {batch.cycle_name} does both"
        )
    return submit_jobs(batch_id, job_ids)


def track_batch(batch_id: int) -> dict[JobStatus, int]:
    """Ask the engines for the status of all unfinished jobs of a batch at once, and record the changes.

    A job that its engine has lost is handed over again, with the same request and key. Jobs that have ended stay as
    they are.

    Returns:
        How many jobs have each status, without skipped ones; statuses without jobs are missing.

    Raises:
        BatchError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    require_open_batch(batch_id)
    track_jobs(batch_id)
    rows = fetch_all(
        "SELECT status, count(*) AS jobs FROM irp_job WHERE batch_id = %s AND NOT skipped GROUP BY status", (batch_id,)
    )
    counts = {row["status"]: row["jobs"] for row in rows}
    return {status: counts[status] for status in JobStatus if status in counts}


def recon_batch(batch_id: int) -> BatchStatus:
    """Derive the status of a batch from its jobs, and record it. Only :func:`track_batch` asks the engines.

    Skipped jobs do not count. The first match decides: ACTIVE while any job has not ended; CANCELLED if there are jobs
    and all are CANCELLED; ERROR if any is ERROR; FAILED if any is FAILED; COMPLETED if every unskipped job
    configuration has a FINISHED job (so an empty batch is COMPLETED); else FAILED.

    Returns:
        The status.

    Raises:
        BatchError: there is no such batch.
        JobError: it would become ACTIVE again while another batch of its configuration and type is under way.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    require_open_batch(batch_id)
    with lock_batch(batch_id):
        status = execute_scalar(
            """
            WITH jobs AS (
                SELECT skipped, status, count(*) AS n FROM irp_job WHERE batch_id = %s GROUP BY skipped, status
            ), counted AS (
                SELECT coalesce(sum(n) FILTER (WHERE NOT skipped), 0) AS jobs,
                       coalesce(bool_or(status NOT IN ('FINISHED', 'FAILED', 'CANCELLED', 'ERROR'))
                                FILTER (WHERE NOT skipped), false) AS any_under_way,
                       coalesce(bool_and(status = 'CANCELLED') FILTER (WHERE NOT skipped), false) AS all_cancelled,
                       coalesce(bool_or(status = 'ERROR') FILTER (WHERE NOT skipped), false) AS any_error,
                       coalesce(bool_or(status = 'FAILED') FILTER (WHERE NOT skipped), false) AS any_failed,
                       coalesce(jsonb_object_agg(status, n) FILTER (WHERE NOT skipped), '{}')
                       || jsonb_build_object('skipped', coalesce(sum(n) FILTER (WHERE skipped), 0)) AS job_counts
                  FROM jobs
            ), decided AS (
                SELECT CASE WHEN any_under_way THEN 'ACTIVE'
                            WHEN all_cancelled THEN 'CANCELLED'
                            WHEN any_error THEN 'ERROR'
                            WHEN any_failed THEN 'FAILED'
                            WHEN NOT EXISTS (
                                SELECT FROM irp_job_configuration c
                                 WHERE c.batch_id = %s AND NOT c.skipped
                                   AND NOT EXISTS (SELECT FROM irp_job j
                                                    WHERE j.job_configuration_id = c.id AND NOT j.skipped
                                                      AND j.status = 'FINISHED')) THEN 'COMPLETED'
                            ELSE 'FAILED' END AS status,
                       job_counts
                  FROM counted
            ), written AS (
                UPDATE irp_batch b
                   SET status = d.status,
                       completed_ts = CASE WHEN d.status = 'ACTIVE' THEN NULL
                                           WHEN d.status = b.status THEN coalesce(b.completed_ts, clock_timestamp())
                                           ELSE clock_timestamp() END
                  FROM decided d
                 WHERE b.id = %s
            )
            INSERT INTO irp_batch_recon_log (batch_id, status, job_counts)
            SELECT %s, status, job_counts FROM decided
            RETURNING status
            """,
            (batch_id, batch_id, batch_id, batch_id),
        )
    return BatchStatus(status)


def cancel_batch(batch_id: int) -> BatchStatus:
    """Ask the engines to end all unfinished jobs of a batch.

    Returns:
        The status of the batch after that: ACTIVE while an engine is still ending a job; tracking and reconciling
        record the end.

    Raises:
        BatchError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached; the next tracking asks it again.
        DatabaseError: the database refuses or is away.
    """
    require_open_batch(batch_id)
    cancel_jobs(batch_id)
    track_jobs(batch_id)
    return recon_batch(batch_id)


def _refuse_jobs_of_others(batch_id: int, job_ids: Collection[int]) -> None:
    of_batch = fetch_all("SELECT id FROM irp_job WHERE batch_id = %s AND id = ANY(%s)", (batch_id, list(job_ids)))
    if strange := set(job_ids) - {row["id"] for row in of_batch}:
        raise BatchError(f"The batch {batch_id} has no jobs with the ids {', '.join(map(str, sorted(strange)))}")
