"""Batches: all the jobs of one type that one configuration asks for.

A transformer turns a configuration into job configurations; there is one for each batch type. A batch is handed over,
tracked and reconciled as a whole, in a number of statements that does not depend on how many jobs it has; single jobs
are the business of :mod:`irp_pipeline.helpers.job`. Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from irp_pipeline.errors import IrpError
from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers import job
from irp_pipeline.helpers.configuration import get_active_configuration
from irp_pipeline.helpers.constants import BatchStatus, BatchType, JobStatus
from irp_pipeline.helpers.database import (
    bulk_insert,
    execute_command,
    execute_insert,
    execute_scalar,
    fetch_all,
    fetch_one,
    transaction,
)
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.job_request import PLACES
from irp_pipeline.postgres.parameters import json_value

Transformer = Callable[[Mapping[str, Any]], Iterable[dict[str, Any]]]

_transformers: dict[str, Transformer] = {}

_COLUMNS = """
    b.id, b.configuration_id, b.step_id, b.batch_type, b.status, b.created_ts, b.submitted_ts, b.completed_ts,
    (SELECT count(*) FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped) AS jobs,
    (SELECT coalesce(jsonb_object_agg(status, n), '{}')
       FROM (SELECT j.status, count(*) AS n FROM irp_job j WHERE j.batch_id = b.id AND NOT j.skipped GROUP BY j.status)
            AS of_status) AS job_counts
"""
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.2
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
    with transaction():
        configuration = _lock_configuration(configuration_id)
        under_way: int | None = execute_scalar(
            """
            SELECT id FROM irp_batch
             WHERE configuration_id = %s AND batch_type = %s AND status IN ('INITIATED', 'ACTIVE')
            """,
            (configuration_id, batch_type),
        )
        if under_way is not None:
            return under_way
        wanted = _wanted(batch_type, configuration["configuration_data"])
        return _make_batch(batch_type, configuration_id, step_id, wanted, [_Wish(item) for item in wanted])


def ensure_batch(batch_type: str, configuration_id: int, step_id: int) -> int:
    """See that the newest batch of a cycle is one that has the jobs which a configuration asks for.

    A batch that has them stays, whatever became of its jobs. Where other jobs are wanted a new batch is made. What a
    person changed on purpose goes over to it, by the name of the analysis: parameters that were overridden, and jobs
    that were skipped.

    Args and errors as for :func:`create_batch`.

    Returns:
        The id of the batch.
    """
    with transaction():
        configuration = _lock_configuration(configuration_id)
        newest = _newest_batch(configuration["cycle_id"], batch_type)
        if newest is not None and _asks_for(newest, configuration_id, configuration["configuration_data"]):
            batch_id: int = newest["id"]
            return batch_id
        wanted = _wanted(batch_type, configuration["configuration_data"])
        by_name = {} if newest is None else _wishes(newest["id"])
        wishes = [by_name[name].over(item) if (name := item.get("name")) in by_name else _Wish(item) for item in wanted]
        return _make_batch(batch_type, configuration_id, step_id, wanted, wishes)


@dataclass(frozen=True)
class _Wish:
    """What a job configuration says: what the workbook asks for, and what a person made of it."""

    parameters: Mapping[str, Any]
    workbook: Mapping[str, Any] | None = None
    override_reason: str | None = None
    skipped: bool = False
    skipped_reason: str | None = None

    def over(self, wanted: Mapping[str, Any]) -> _Wish:
        """Return what remains of it over other parameters of the workbook."""
        before = self.parameters if self.workbook is None else self.workbook
        kept = {name: value for name, value in wanted.items() if name in self.parameters or name not in before}
        changed = {
            name: value for name, value in self.parameters.items() if name not in before or before[name] != value
        }
        parameters = kept | changed
        if parameters == dict(wanted):
            return replace(self, parameters=wanted, workbook=None, override_reason=None)
        return replace(self, parameters=parameters, workbook=wanted)


def _wishes(batch_id: int) -> dict[str, _Wish]:
    """Return what holds for each named analysis of a batch now."""
    rows = fetch_all(
        """
        SELECT DISTINCT ON (name) coalesce(workbook_data, job_configuration_data) ->> 'name' AS name,
               job_configuration_data, workbook_data, override_reason, skipped, skipped_reason
          FROM irp_job_configuration
         WHERE batch_id = %s
         ORDER BY name, id DESC
        """,
        (batch_id,),
    )
    return {
        row["name"]: _Wish(
            row["job_configuration_data"],
            row["workbook_data"],
            row["override_reason"],
            row["skipped"],
            row["skipped_reason"],
        )
        for row in rows
        if row["name"] is not None
    }


def _lock_configuration(configuration_id: int) -> dict[str, Any]:
    """Return a configuration; one batch at a time is made for its cycle, and whoever comes second finds the first."""
    configuration = fetch_one(
        """
        SELECT f.cycle_id, f.configuration_data
          FROM irp_configuration f JOIN irp_cycle c ON c.id = f.cycle_id
         WHERE f.id = %s AND f.configuration_data IS NOT NULL FOR NO KEY UPDATE OF c
        """,
        (configuration_id,),
    )
    if configuration is None:
        raise BatchError(f"There is no valid configuration with the id {configuration_id}")
    return configuration


def _wanted(batch_type: str, configuration: Mapping[str, Any]) -> list[dict[str, Any]]:
    transform = _transformers.get(batch_type)
    if transform is None:
        known = ", ".join(sorted(_transformers))
        raise BatchError(f"Unknown batch type {batch_type!r}. The types are: {known}")
    return list(transform(configuration))


def _wanted_hash(wanted: Iterable[Mapping[str, Any]]) -> str:
    return value_hash(sorted(value_hash(json_value(dict(item))) for item in wanted))


def _asks_for(batch: Mapping[str, Any], configuration_id: int, configuration: Mapping[str, Any]) -> bool:
    """Tell whether a batch was made for the jobs that a configuration asks for."""
    if batch["wanted_hash"] is None:  # made before that was kept
        return bool(batch["configuration_id"] == configuration_id)
    return bool(batch["wanted_hash"] == _wanted_hash(_wanted(batch["batch_type"], configuration)))


def _make_batch(
    batch_type: str,
    configuration_id: int,
    step_id: int,
    wanted: Iterable[Mapping[str, Any]],
    wishes: Iterable[_Wish],
) -> int:
    batch_id: int = execute_insert(
        """
        INSERT INTO irp_batch (configuration_id, step_id, batch_type, wanted_hash) VALUES (%s, %s, %s, %s)
        RETURNING id
        """,
        (configuration_id, step_id, batch_type, _wanted_hash(wanted)),
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
        INSERT INTO irp_job (batch_id, job_configuration_id, skipped)
        SELECT batch_id, id, skipped FROM irp_job_configuration WHERE batch_id = %s ORDER BY id
        """,
        (batch_id,),
    )
    return batch_id


def _newest_batch(cycle_id: int, batch_type: str) -> dict[str, Any] | None:
    return fetch_one(
        f"""
        SELECT {_COLUMNS}, b.wanted_hash
          FROM irp_batch b JOIN irp_configuration f ON f.id = b.configuration_id
         WHERE f.cycle_id = %s AND b.batch_type = %s ORDER BY b.id DESC LIMIT 1
        """,  # noqa: S608
        (cycle_id, batch_type),
    )


def read_batch(batch_id: int) -> dict[str, Any] | None:
    """Return a batch, or None.

    Returns:
        id, configuration_id, step_id, batch_type, status, created_ts, submitted_ts, completed_ts, jobs (how many it
        has) and job_counts (how many by status), skipped ones not counted.
    """
    return fetch_one(f"SELECT {_COLUMNS} FROM irp_batch b WHERE b.id = %s", (batch_id,))  # noqa: S608


def current_batch(cycle_id: int, batch_type: str = BatchType.ANALYSIS) -> dict[str, Any] | None:
    """Return the batch that a cycle works with: its newest of the type, if it has the jobs that the workbook asks for.

    Returns:
        The columns of :func:`read_batch`; None if the workbook asks for other jobs than those of the newest batch, or
        there is none.
    """
    configuration = get_active_configuration(cycle_id)
    newest = None if configuration is None else _newest_batch(cycle_id, batch_type)
    if configuration is None or newest is None:
        return None
    if not _asks_for(newest, configuration["id"], configuration["configuration_data"]):
        return None
    del newest["wanted_hash"]
    return newest


def wanted_content(cycle_id: int, batch_type: str = BatchType.ANALYSIS) -> str | None:
    """Return a hash of the jobs that the workbook of a cycle asks for; None if the cycle has no batch of them yet."""
    configuration = get_active_configuration(cycle_id)
    if configuration is None or current_batch(cycle_id, batch_type) is None:
        return None
    return _wanted_hash(_wanted(batch_type, configuration["configuration_data"]))


def wanted_jobs(batch_id: int) -> list[dict[str, Any]]:
    """Return what a batch is to compute: the parameters of its jobs, without those that a person does without.

    Returns:
        Plain parameters in the order of the names; no ids and no times.
    """
    rows = fetch_all(
        """
        SELECT job_configuration_data FROM irp_job_configuration
         WHERE batch_id = %s AND NOT skipped ORDER BY job_configuration_data ->> 'name', id
        """,
        (batch_id,),
    )
    return [row["job_configuration_data"] for row in rows]


def job_contents(batch_id: int) -> list[dict[str, Any]]:
    """Return what the jobs of a batch stand for by content, in the order of the names.

    Returns:
        Of each unskipped job: ``request``, a hash of what its engine was given (None before that), and ``result``, a
        hash of the figures and files that came back (None before that). No ids, times, places or hosts.
    """
    rows = fetch_all(
        f"""
        SELECT j.request_data - {PLACES} AS request, c.job_configuration_data,
               CASE WHEN j.status = 'FINISHED' THEN j.result_data END AS result
          FROM irp_job j JOIN irp_job_configuration c ON c.id = j.job_configuration_id
         WHERE j.batch_id = %s AND NOT j.skipped
         ORDER BY c.job_configuration_data ->> 'name', j.id
        """,  # noqa: S608
        (batch_id,),
    )
    return [
        {
            "request": None if row["request"] is None else value_hash(row["request"]),
            "result": None if row["result"] is None else value_hash(_result_content(row["result"])),
        }
        for row in rows
    ]


def jobs_handed_over_since(batch_id: int, step_key: str) -> int:
    """Return how many unskipped jobs of a batch were handed over after a step of its cycle last completed."""
    number: int = execute_scalar(
        """
        SELECT count(*)
          FROM irp_batch b
          JOIN irp_configuration f ON f.id = b.configuration_id
          JOIN irp_job j ON j.batch_id = b.id AND NOT j.skipped
         WHERE b.id = %s
           AND j.submitted_ts > (
               SELECT max(r.completed_ts)
                 FROM irp_stage sg
                 JOIN irp_step st ON st.stage_id = sg.id AND st.step_key = %s
                 JOIN irp_step_run r ON r.step_id = st.id AND r.status = 'COMPLETED'
                WHERE sg.cycle_id = f.cycle_id)
        """,
        (batch_id, step_key),
    )
    return number


def _result_content(result: Mapping[str, Any]) -> dict[str, Any]:
    files = {
        name: entry["sha256"] if isinstance(entry, Mapping) else entry
        for name, entry in (result.get("files") or {}).items()
    }
    return {"figures": result.get("figures"), "currency": result.get("currency"), "files": files}


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
        error_message, work_job_id, job_configuration_data.
    """
    return fetch_all(
        """
        SELECT j.id, j.batch_id, j.job_configuration_id, j.parent_job_id, j.status, j.skipped, j.created_ts,
               j.submitted_ts, j.completed_ts, j.error_message, j.work_job_id, c.job_configuration_data
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


def outdated_jobs(batch_id: int) -> dict[int, str]:
    """Return which jobs :func:`renew_batch` would resubmit, and why.

    Returns:
        The reason by the id of the unskipped job, in order: it ended without a result, or it was handed over with
        another request than it would be given now, or a file of its result is missing on this machine or differs.

    Raises:
        BatchError: there is no such batch.
        JobError: the request of a job that was handed over cannot be made now, so that nobody can tell.
        CycleError: its cycle is archived.
        DatabaseError: the database refuses or is away.
    """
    batch = _require_open_batch(batch_id)
    return {row["id"]: row["reason"] for row in _outdated(batch, _requests_now(batch), _changed_files(batch))}


def renew_batch(batch_id: int, *, everything: bool = False) -> list[int]:
    """Resubmit the jobs of a batch that need it: see :func:`outdated_jobs`. Those under way are ended first.

    Args:
        batch_id: the batch.
        everything: resubmit all of its jobs that were handed over, to be computed again.

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
    open_batch = _require_open_batch(batch_id)
    # Hashing may take long: nobody waits for it.
    requests, changed = _requests_now(open_batch), _changed_files(open_batch)
    with job.lock_batch(batch_id) as batch:
        outdated = _outdated(batch, requests, changed, everything=everything)
        reasons = {row["id"]: row["reason"] for row in outdated}
        return job.replace_jobs(batch, reasons, outdated, recompute=everything)


def end_batches(cycle_id: int, batch_type: str, patience: float = _PATIENCE_SECONDS) -> list[int]:
    """End the jobs of all batches of a cycle that are under way, and wait until they have ended.

    Args:
        cycle_id: the cycle.
        batch_type: which batches.
        patience: how many seconds to wait for the engines.

    Returns:
        The ids of the batches that were under way.

    Raises:
        BatchError: jobs have not ended in time.
        CycleError: the cycle is archived.
        EngineError: an engine cannot be reached.
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT b.id FROM irp_batch b JOIN irp_configuration f ON f.id = b.configuration_id
         WHERE f.cycle_id = %s AND b.batch_type = %s AND b.status IN ('INITIATED', 'ACTIVE') ORDER BY b.id
        """,
        (cycle_id, batch_type),
    )
    deadline = time.monotonic() + patience
    for row in rows:
        status = cancel_batch(row["id"])
        while status in {BatchStatus.INITIATED, BatchStatus.ACTIVE}:
            if time.monotonic() > deadline:
                raise BatchError(
                    f"The jobs of batch {row['id']} have not ended within {patience:g} s. Look at them with: "
                    f"irp batch show {row['id']}"
                )
            time.sleep(_POLL_SECONDS)
            track_batch(row["id"])
            status = recon_batch(row["id"])
    return [row["id"] for row in rows]


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


def _changed_files(batch: job.BatchOfJobs) -> dict[int, str]:
    """Say of each finished job which file of its result is missing on this machine or differs, if one does."""
    finished = fetch_all(
        """
        SELECT j.id, coalesce(w.job_key, j.job_key) AS work_key, j.result_data, c.job_configuration_data
          FROM irp_job j
          JOIN irp_job_configuration c ON c.id = j.job_configuration_id
          LEFT JOIN irp_job w ON w.id = j.work_job_id
         WHERE j.batch_id = %s AND NOT j.skipped AND j.status = 'FINISHED'
        """,
        (batch.id,),
    )
    changed = {row["id"]: job.changed_file(row, batch.cycle_name) for row in finished}
    return {job_id: what for job_id, what in changed.items() if what is not None}


def _outdated(
    batch: job.BatchOfJobs,
    requests: Mapping[int, dict[str, Any]],
    changed: Mapping[int, str],
    *,
    everything: bool = False,
) -> list[dict[str, Any]]:
    rows = {
        "rows": [
            {"id": job_id, "request": requests.get(job_id), "changed": changed.get(job_id)}
            for job_id in {*requests, *changed}
        ]
    }
    return fetch_all(
        f"""
        SELECT * FROM (
            SELECT j.id, j.job_key, j.status, j.request_data IS NOT NULL AS has_request, c.job_configuration_data,
                   CASE WHEN j.status IN {_ENDED_WITHOUT_RESULT} THEN 'it ended without a result'
                        WHEN j.status = 'INITIATED' THEN NULL
                        WHEN now.request IS NOT NULL
                             AND j.request_data - {PLACES} IS DISTINCT FROM now.request - {PLACES}
                        THEN 'its request changed'
                        WHEN j.status = 'FINISHED' AND now.changed IS NOT NULL THEN now.changed
                        WHEN %s THEN 'it was asked to run again'
                    END AS reason
              FROM irp_job j
              JOIN irp_job_configuration c ON c.id = j.job_configuration_id
              LEFT JOIN jsonb_to_recordset(%s -> 'rows') AS now (id bigint, request jsonb, changed text)
                   ON now.id = j.id
             WHERE j.batch_id = %s AND NOT j.skipped) judged
         WHERE reason IS NOT NULL
         ORDER BY id
        """,  # noqa: S608
        (everything, rows, batch.id),
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
