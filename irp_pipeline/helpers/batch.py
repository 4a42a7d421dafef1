"""Batches: all the jobs of one type that one configuration asks for.

A transformer turns a configuration into job configurations; there is one for each batch type. A batch is handed over,
tracked and reconciled as a whole, in a number of statements that does not depend on how many jobs it has; single jobs
are the business of :mod:`irp_pipeline.helpers.job`. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers import job
from irp_pipeline.helpers.configuration import get_active_configuration
from irp_pipeline.helpers.constants import BatchStatus, BatchType, JobStatus
from irp_pipeline.helpers.database import bulk_insert, execute_insert, execute_scalar, fetch_all, fetch_one, transaction
from irp_pipeline.helpers.db_context import get_current_schema

Transformer = Callable[[Mapping[str, Any]], Iterable[dict[str, Any]]]

_transformers: dict[str, Transformer] = {}

_COLUMNS = """
    b.id, b.configuration_id, b.step_id, b.batch_type, b.status, b.created_ts, b.submitted_ts, b.completed_ts,
    (SELECT count(*) FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped) AS jobs,
    (SELECT coalesce(jsonb_object_agg(status, n), '{}')
       FROM (SELECT j.status, count(*) AS n FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped GROUP BY j.status)
            AS of_status) AS job_counts
"""
_PLACES = "ARRAY['inputs', 'model', 'settings']"
"""Entries of a request that say where something is; what it is, the hashes say."""
_ENDED_WITHOUT_RESULT = "('FAILED', 'ERROR', 'CANCELLED')"


class BatchError(IrpError):
    """A batch cannot be made or changed as asked."""


def transformer(batch_type: str) -> Callable[[Transformer], Transformer]:
    """Register a function as the transformer of a batch type.

    Args:
        batch_type: the type; a later registration replaces an earlier one.

    Returns:
        A decorator for a function that takes the data of a configuration and gives the parameters of each job.
    """

    def register(function: Transformer) -> Transformer:
        _transformers[batch_type] = function
        return function

    return register


@transformer(BatchType.ANALYSIS)
def one_job_for_each_analysis(configuration: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Give the analyses of a workbook, each with the currency that its results are in."""
    currency = configuration["metadata"].get("currency")
    for analysis in configuration["analyses"]:
        yield {"currency": currency, **analysis}


def create_batch(batch_type: str, configuration_id: int, step_id: int) -> int:
    """Make a batch with all its job configurations and jobs, in one transaction.

    Args:
        batch_type: which jobs; a transformer must be registered for it.
        configuration_id: the configuration that asks for them.
        step_id: the step that makes the batch.

    Returns:
        The id of the batch; of the existing one if a batch of that type is INITIATED or ACTIVE for the configuration.

    Raises:
        BatchError: no transformer for the type, or no such configuration with valid data.
        DatabaseError: the database refuses or is away.
    """
    transform = _transformers.get(batch_type)
    if transform is None:
        known = ", ".join(sorted(_transformers))
        raise BatchError(f"Unknown batch type {batch_type!r}. The types are: {known}")
    with transaction():
        # One batch at a time for each configuration: whoever comes second finds the first one's.
        configuration = fetch_one(
            "SELECT configuration_data FROM irp_configuration WHERE id = %s FOR NO KEY UPDATE", (configuration_id,)
        )
        if configuration is None or configuration["configuration_data"] is None:
            raise BatchError(f"There is no valid configuration with the id {configuration_id}")
        under_way: int | None = execute_scalar(
            """
            SELECT id FROM irp_batch
             WHERE configuration_id = %s AND batch_type = %s AND status IN ('INITIATED', 'ACTIVE')
            """,
            (configuration_id, batch_type),
        )
        if under_way is not None:
            return under_way
        batch_id: int = execute_insert(
            "INSERT INTO irp_batch (configuration_id, step_id, batch_type) VALUES (%s, %s, %s) RETURNING id",
            (configuration_id, step_id, batch_type),
        )
        job_configuration_ids = bulk_insert(
            "INSERT INTO irp_job_configuration (batch_id, job_configuration_data) VALUES (%s, %s)",
            ((batch_id, parameters) for parameters in transform(configuration["configuration_data"])),
        )
        bulk_insert(
            "INSERT INTO irp_job (batch_id, job_configuration_id) VALUES (%s, %s)",
            ((batch_id, job_configuration_id) for job_configuration_id in job_configuration_ids),
        )
    return batch_id


def read_batch(batch_id: int) -> dict[str, Any] | None:
    """Return a batch, or None.

    Returns:
        id, configuration_id, step_id, batch_type, status, created_ts, submitted_ts, completed_ts, jobs (how many it
        has) and job_counts (how many by status), skipped ones not counted.
    """
    return fetch_one(f"SELECT {_COLUMNS} FROM irp_batch b WHERE b.id = %s", (batch_id,))  # noqa: S608


def latest_batch(configuration_id: int, batch_type: str) -> dict[str, Any] | None:
    """Return the youngest batch of a type for a configuration, or None; the columns of :func:`read_batch`."""
    return fetch_one(
        f"""
        SELECT {_COLUMNS} FROM irp_batch b
         WHERE b.configuration_id = %s AND b.batch_type = %s ORDER BY b.id DESC LIMIT 1
        """,  # noqa: S608
        (configuration_id, batch_type),
    )


def current_batch(cycle_id: int, batch_type: str = BatchType.ANALYSIS) -> dict[str, Any] | None:
    """Return the batch that a cycle works with: the youngest of the type for its active configuration, or None.

    Returns:
        The columns of :func:`read_batch`.
    """
    configuration = get_active_configuration(cycle_id)
    return latest_batch(configuration["id"], batch_type) if configuration is not None else None


def list_batches(cycle_id: int) -> list[dict[str, Any]]:
    """Return the batches of a cycle, the oldest first; the columns of :func:`read_batch`."""
    return fetch_all(
        f"""
        SELECT {_COLUMNS}
          FROM irp_batch b JOIN irp_configuration cf ON cf.id = b.configuration_id
         WHERE cf.cycle_id = %s ORDER BY b.id
        """,  # noqa: S608
        (cycle_id,),
    )


def get_batch_jobs(batch_id: int) -> list[dict[str, Any]]:
    """Return the jobs of a batch in the order they were made, skipped ones too.

    Returns:
        id, batch_id, job_configuration_id, parent_job_id, status, skipped, created_ts, submitted_ts, completed_ts,
        error_message, job_configuration_data.
    """
    return fetch_all(
        """
        SELECT j.id, j.batch_id, j.job_configuration_id, j.parent_job_id, j.status, j.skipped, j.created_ts,
               j.submitted_ts, j.completed_ts, j.error_message, c.job_configuration_data
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s
         ORDER BY j.id
        """,
        (batch_id,),
    )


def submit_batch(batch_id: int, job_ids: Collection[int] | None = None) -> int:
    """Hand the INITIATED jobs of a batch to their engines.

    Safe to repeat, after a crash at any point too: a job goes to its engine under the same key.

    Args:
        batch_id: the batch.
        job_ids: only these of its jobs; those that are skipped or not INITIATED are left alone.

    Returns:
        How many were handed over. One whose request cannot be made, or that its engine refuses, becomes ERROR with the
        message and does not stop the others.

    Raises:
        BatchError: there is no such batch, or it has no such jobs.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    _require_open_batch(batch_id)
    if job_ids is not None:
        _refuse_jobs_of_others(batch_id, job_ids)
    return job.submit_jobs(batch_id, job_ids)


def track_batch(batch_id: int) -> dict[JobStatus, int]:
    """Ask the engines how the unfinished jobs of a batch stand, all at once, and write down what has changed.

    A job that its engine has lost is handed over again, with the same request and key. What has ended stays as it is.

    Returns:
        How many jobs there are in each status, skipped ones not counted; statuses without jobs are missing.

    Raises:
        BatchError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    _require_open_batch(batch_id)
    job.track_jobs(batch_id)
    rows = fetch_all(
        "SELECT status, count(*) AS jobs FROM irp_job WHERE batch_id = %s AND NOT skipped GROUP BY status", (batch_id,)
    )
    counts = {row["status"]: row["jobs"] for row in rows}
    return {status: counts[status] for status in JobStatus if status in counts}


def recon_batch(batch_id: int) -> BatchStatus:
    """Decide from its jobs how a batch stands, and write that down. No engine is asked: that is :func:`track_batch`.

    Skipped jobs do not count. In this order: ACTIVE while any job has not ended; CANCELLED when there are jobs and all
    are; ERROR when any is; FAILED when any is; COMPLETED when every unskipped job configuration has a FINISHED job, as
    in an empty batch; else FAILED.

    Returns:
        The status.

    Raises:
        BatchError: there is no such batch.
        JobError: it would be ACTIVE again, and another of its configuration and type is under way.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    _require_open_batch(batch_id)
    with job.lock_batch(batch_id):
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
    """Ask for all unfinished jobs of a batch to be ended.

    Returns:
        How the batch stands then: ACTIVE while an engine is still at it; tracking and reconciling go on from there.

    Raises:
        BatchError: there is no such batch.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached; the next tracking asks it again.
        DatabaseError: the database refuses or is away.
    """
    _require_open_batch(batch_id)
    job.cancel_jobs(batch_id)
    job.track_jobs(batch_id)
    return recon_batch(batch_id)


def outdated_jobs(batch_id: int) -> list[int]:
    """Return which jobs :func:`renew_batch` would resubmit.

    Returns:
        The ids of the unskipped jobs that ended without a result, and of those that were handed over with another
        request than they would be given now, in order.

    Raises:
        BatchError: there is no such batch.
        JobError: the request of a job that was handed over cannot be made now, so that nobody can tell.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    return [row["id"] for row in _outdated(batch_id, _requests_now(_require_open_batch(batch_id)))]


def renew_batch(batch_id: int) -> list[int]:
    """Resubmit the jobs of a batch that need it: see :func:`outdated_jobs`. Those under way are ended first.

    Returns:
        The ids of the new jobs, which are INITIATED: :func:`submit_batch` hands them over. The batch is ACTIVE again if
        there are any.

    Raises:
        BatchError: there is no such batch.
        JobError: as :func:`outdated_jobs`; or the batch has ended and another of its configuration and type is under
            way. Nothing is changed then.
        CycleError: its cycle is archived.
        EngineError: an engine cannot be reached to end a job.
        DatabaseError: the database refuses or is away.
    """
    requests = _requests_now(_require_open_batch(batch_id))  # hashing may take long: nobody waits for it
    with job.lock_batch(batch_id) as batch:
        return job.replace_jobs(batch, _outdated(batch_id, requests), "ended without a result, or its request changed")


def _requests_now(batch: job.BatchOfJobs) -> dict[int, dict[str, Any]]:
    """Return what the jobs of a batch that may have a result would be given now."""
    jobs = fetch_all(
        f"""
        SELECT j.id, c.job_configuration_data
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s AND NOT j.skipped AND j.status <> 'INITIATED' AND j.status NOT IN {_ENDED_WITHOUT_RESULT}
         ORDER BY j.id
        """,  # noqa: S608
        (batch.id,),
    )
    requests, refused = job.requests_of(batch, jobs)
    for job_id, error in refused.items():
        raise job.JobError(f"Whether the job {job_id} is up to date cannot be told. {error}") from error
    return requests


def _outdated(batch_id: int, requests: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return fetch_all(
        f"""
        SELECT j.id, j.job_key, j.status, j.request_data IS NOT NULL AS has_request, c.job_configuration_data
          FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
          LEFT JOIN jsonb_to_recordset(%s -> 'rows') AS now (id bigint, request jsonb) ON now.id = j.id
         WHERE j.batch_id = %s AND NOT j.skipped
           AND (j.status IN {_ENDED_WITHOUT_RESULT}
                OR (j.status <> 'INITIATED' AND now.id IS NOT NULL
                    AND j.request_data - {_PLACES} IS DISTINCT FROM now.request - {_PLACES}))
         ORDER BY j.id
        """,  # noqa: S608
        ({"rows": [{"id": job_id, "request": request} for job_id, request in requests.items()]}, batch_id),
    )


def _require_open_batch(batch_id: int) -> job.BatchOfJobs:
    batch = job.open_batch(batch_id)
    if batch is None:
        raise BatchError(f"There is no batch with the id {batch_id} in schema {get_current_schema()!r}")
    return batch


def _refuse_jobs_of_others(batch_id: int, job_ids: Collection[int]) -> None:
    of_batch = fetch_all("SELECT id FROM irp_job WHERE batch_id = %s AND id = ANY(%s)", (batch_id, list(job_ids)))
    if strange := set(job_ids) - {row["id"] for row in of_batch}:
        raise BatchError(f"The batch {batch_id} has no jobs with the ids {', '.join(map(str, sorted(strange)))}")


def batches_under_way() -> list[dict[str, Any]]:
    """Return the ACTIVE batches of the cycles that take work, if their configuration is the cycle's own still.

    Returns:
        The columns of :func:`read_batch`, and cycle_name.
    """
    return fetch_all(
        f"""
        SELECT {_COLUMNS}, cy.cycle_name
          FROM irp_batch b
          JOIN irp_configuration cf ON cf.id = b.configuration_id AND cf.status = 'ACTIVE'
          JOIN irp_cycle cy ON cy.id = cf.cycle_id AND cy.status = 'ACTIVE'
         WHERE b.status = 'ACTIVE' ORDER BY b.id
        """  # noqa: S608
    )
