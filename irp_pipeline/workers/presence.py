"""Which workers there are: each has a row with its host, and renews it while it is there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from irp_pipeline.engines.leases import LEASE_SECONDS
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.postgres.running import execute_command, execute_scalar, fetch_all
from irp_pipeline.postgres.schemas import current_version, latest_version, list_initialised_schemas
from irp_pipeline.process import this_process
from irp_pipeline.queue.names import QUEUE_SCHEMA
from irp_pipeline.queue.tasks import queue_prefix, short_name

_FORGOTTEN_AFTER: Final = "1 day"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobAtWorker:
    """A job that a worker runs.

    Attributes:
        schema, cycle, job_id, analysis: which job.
        doing: what its program says it is doing.
        begun_ts: since when.
        heartbeat_seconds: the age of its last heartbeat.
    """

    schema: str
    cycle: str
    job_id: int
    analysis: str | None
    doing: str | None
    begun_ts: datetime
    heartbeat_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PresentWorker:
    """A worker.

    Attributes:
        host, pid: the process.
        slots: how many jobs it runs at once.
        queues: the queues that it takes jobs from; empty: all of them.
        is_ending: whether it takes no more jobs.
        started_ts: since when it is there.
        heartbeat_seconds: the age of its last heartbeat.
        is_lost: whether that is too old.
        jobs: what it runs.
    """

    host: str
    pid: int
    slots: int
    queues: tuple[str, ...]
    is_ending: bool
    started_ts: datetime
    heartbeat_seconds: float
    is_lost: bool
    jobs: tuple[JobAtWorker, ...] = ()


def arrive(slots: int, queues: Iterable[str]) -> int:
    """Record that this process is a worker; return the id of the record. Old records of lost ones are removed."""
    execute_command(
        f"""
        DELETE FROM irp_queue.irp_worker
         WHERE heartbeat_ts < clock_timestamp() - interval '{_FORGOTTEN_AFTER}'
        """,  # noqa: S608 - a constant
        schema=QUEUE_SCHEMA,
    )
    process = this_process()
    return int(
        execute_scalar(
            """
            INSERT INTO irp_queue.irp_worker (host, pid, pid_started, slots, queues)
            VALUES (%s, %s, %s, %s, %s) RETURNING id
            """,
            (process.host, process.pid, process.started, slots, [*queues]),
            QUEUE_SCHEMA,
        )
    )


def stay(worker_id: int, *, is_ending: bool = False) -> bool:
    """Record that this worker is still there; return whether there is a record of it."""
    return (
        execute_command(
            "UPDATE irp_queue.irp_worker SET heartbeat_ts = clock_timestamp(), is_ending = %s WHERE id = %s",
            (is_ending, worker_id),
            QUEUE_SCHEMA,
        )
        > 0
    )


def leave(worker_id: int) -> None:
    """Remove the record of this worker."""
    execute_command("DELETE FROM irp_queue.irp_worker WHERE id = %s", (worker_id,), QUEUE_SCHEMA)


def list_workers() -> list[PresentWorker]:
    """Return the workers of this installation, each with what it does.

    Raises:
        DatabaseError: the server is away, or there is no queue in the database.
    """
    prefix = queue_prefix()
    rows = fetch_all(
        """
        SELECT host, pid, pid_started, slots, queues, is_ending, started_ts,
               extract(epoch FROM clock_timestamp() - heartbeat_ts)::float8 AS heartbeat_seconds
          FROM irp_queue.irp_worker
         WHERE EXISTS (SELECT FROM unnest(queues) AS q (name) WHERE starts_with(q.name, %s))
         ORDER BY host, started_ts, id
        """,
        (prefix,),
        QUEUE_SCHEMA,
    )
    at_work = _jobs_by_worker()
    return [
        PresentWorker(
            host=row["host"],
            pid=row["pid"],
            slots=row["slots"],
            queues=tuple(name for name in map(short_name, row["queues"]) if name),
            is_ending=row["is_ending"],
            started_ts=row["started_ts"],
            heartbeat_seconds=round(row["heartbeat_seconds"], 1),
            is_lost=row["heartbeat_seconds"] > LEASE_SECONDS,
            jobs=tuple(at_work.get((row["host"], row["pid"], row["pid_started"]), ())),
        )
        for row in rows
    ]


def _jobs_by_worker() -> dict[tuple[str, int, str], list[JobAtWorker]]:
    found: dict[tuple[str, int, str], list[JobAtWorker]] = {}
    for schema in list_initialised_schemas():
        if current_version(schema) != latest_version():
            continue
        with schema_context(schema):
            rows: list[dict[str, Any]] = fetch_all(
                """
                SELECT j.host, j.pid, j.pid_started, y.cycle_name AS cycle, j.id AS job_id, j.doing, j.begun_ts,
                       c.job_configuration_data ->> 'name' AS analysis,
                       extract(epoch FROM clock_timestamp() - j.heartbeat_ts)::float8 AS heartbeat_seconds
                  FROM irp_job j
                  JOIN irp_job_configuration c ON c.id = j.job_configuration_id
                  JOIN irp_batch b ON b.id = j.batch_id
                  JOIN irp_configuration f ON f.id = b.configuration_id
                  JOIN irp_cycle y ON y.id = f.cycle_id
                 WHERE j.begun_ts IS NOT NULL AND j.engine_end IS NULL
                 ORDER BY j.begun_ts
                """
            )
        for row in rows:
            worker = row.pop("host"), row.pop("pid"), row.pop("pid_started")
            row["heartbeat_seconds"] = round(row["heartbeat_seconds"], 1)
            found.setdefault(worker, []).append(JobAtWorker(schema=schema, **row))
    return found
