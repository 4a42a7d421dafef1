"""Which process executes a step of a run, where a broker hands steps to workers: one row per attempt at a step.

The rows are in the database with Dagster's records. A worker begins a step by inserting its row, which only one can do:
a message that a broker delivers twice, or that was sent again, does nothing. It renews its heartbeat until the step has
ended, so that the run notices when it is lost.

Here: the rows. Not here: the lease of a tracked step (:mod:`irp_pipeline.helpers.lease`), which decides whose result
counts, and sending steps to workers (:mod:`irp_pipeline.orchestration.celery_executor`).
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
from dagster import DagsterInstance
from sqlalchemy import make_url

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.heartbeat import HEARTBEAT_SECONDS
from irp_pipeline.helpers.lost_runs import LEASE_SECONDS
from irp_pipeline.orchestration.storage import connect, records_error, sole_decision
from irp_pipeline.process import HostProcess, this_process

_RETRY_SECONDS = 1.0
_DAYS_KEPT = 30  # a broker that keeps messages for longer could have a step begun twice
_log = logging.getLogger(__name__)


class StepWorkerError(IrpError):
    """The rows of step workers cannot be kept."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a step of a run.

    Attributes:
        run_id: the Dagster run.
        step_key: the step, as Dagster names it.
        number: 0, and one more for each retry.
    """

    run_id: str
    step_key: str
    number: int

    @property
    def key(self) -> tuple[str, str, int]:
        """The key of its row."""
        return self.run_id, self.step_key, self.number


@dataclass(frozen=True)
class StepWorker:
    """The row of an attempt.

    Attributes:
        worker: the process that began the step; None if the attempt was called off before anybody began it.
        name: the worker's name at the broker.
        heartbeat_ts: its last heartbeat.
        expired: whether that is longer ago than a lease lasts, by the server's clock.
        ended: whether the step has ended there, or was called off.
    """

    worker: HostProcess | None
    name: str | None
    heartbeat_ts: datetime
    expired: bool
    ended: bool

    def __str__(self) -> str:
        if self.worker is None:
            return "no worker"
        return f"the worker {self.name} (process {self.worker.pid} on host {self.worker.host})"


def prepare(instance: DagsterInstance) -> None:
    """Make the table if it is missing, and remove old rows. Safe for any number of processes at once.

    Raises:
        StepWorkerError: Dagster's records are not in PostgreSQL.
        DatabaseError: the database with Dagster's records is away, or refuses to make the table.
    """
    with sole_decision(instance):
        _execute(
            instance,
            """
            CREATE TABLE IF NOT EXISTS step_workers (
                run_id text, step_key text, attempt integer,
                host text, pid integer, pid_started text, worker_name text,
                heartbeat_ts timestamptz NOT NULL DEFAULT clock_timestamp(), ended_ts timestamptz,
                PRIMARY KEY (run_id, step_key, attempt)
            );
            DELETE FROM step_workers WHERE heartbeat_ts < clock_timestamp() - make_interval(days => %s)
            """,
            (_DAYS_KEPT,),
        )


def begin(instance: DagsterInstance, attempt: Attempt, name: str) -> bool:
    """Begin an attempt in this process, unless somebody has begun it or called it off.

    Args:
        instance: where the run is recorded.
        attempt: the attempt.
        name: this worker's name at the broker.

    Returns:
        Whether it is this process that begins.

    Raises:
        DatabaseError: the database with Dagster's records is away.
    """
    worker = this_process()
    inserted = _execute(
        instance,
        """
        INSERT INTO step_workers (run_id, step_key, attempt, host, pid, pid_started, worker_name)
        VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
        """,
        (*attempt.key, worker.host, worker.pid, worker.started, name),
    )
    return inserted > 0


def call_off(instance: DagsterInstance, attempt: Attempt) -> None:
    """Make sure that no worker begins an attempt that nobody has begun; one that has begun stays as it is."""
    _execute(
        instance,
        """
        INSERT INTO step_workers (run_id, step_key, attempt, ended_ts)
        VALUES (%s, %s, %s, clock_timestamp()) ON CONFLICT DO NOTHING
        """,
        attempt.key,
    )


def find(instance: DagsterInstance, attempt: Attempt) -> StepWorker | None:
    """Return the row of an attempt; None if nobody has begun it."""
    with _connection(instance) as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT host, pid, pid_started, worker_name, heartbeat_ts,
                   heartbeat_ts < clock_timestamp() - make_interval(secs => %s), ended_ts IS NOT NULL
              FROM step_workers WHERE run_id = %s AND step_key = %s AND attempt = %s
            """,
            (LEASE_SECONDS, *attempt.key),
        )
        row = cursor.fetchone()
    if row is None:
        return None
    host, pid, started, name, heartbeat_ts, expired, ended = row
    worker = HostProcess(host, pid, started) if host is not None else None
    return StepWorker(worker, name, heartbeat_ts, expired, ended)


@contextmanager
def heartbeat(instance: DagsterInstance, attempt: Attempt) -> Iterator[None]:
    """Renew the heartbeat of an attempt during the block, and record its end."""
    stopped = threading.Event()

    def beat() -> None:
        pause: float = HEARTBEAT_SECONDS
        while not stopped.wait(pause):
            try:
                _execute(instance, _HEARTBEAT, attempt.key)
                pause = HEARTBEAT_SECONDS
            except Exception as error:  # only the end of the step may end this thread
                _log.warning("The heartbeat of %s could not be renewed, trying again: %s", attempt.step_key, error)
                pause = _RETRY_SECONDS

    threading.Thread(target=beat, name="irp-step-worker", daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
        _execute(instance, _END, attempt.key)


_HEARTBEAT = """
    UPDATE step_workers SET heartbeat_ts = clock_timestamp() WHERE run_id = %s AND step_key = %s AND attempt = %s
"""
_END = """
    UPDATE step_workers SET ended_ts = clock_timestamp() WHERE run_id = %s AND step_key = %s AND attempt = %s
"""


def _execute(instance: DagsterInstance, statement: str, values: tuple[Any, ...]) -> int:
    """Execute a statement in a transaction of its own; return how many rows it affected."""
    with _connection(instance) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


@contextmanager
def _connection(instance: DagsterInstance) -> Iterator[psycopg2.extensions.connection]:
    address = getattr(instance.run_storage, "postgres_url", None)
    if address is None:
        raise StepWorkerError(
            "Steps cannot be handed to other hosts, since Dagster's records are not in PostgreSQL. Use the "
            "dagster.yaml of this project (unset DAGSTER_HOME), or set IRP_EXECUTOR to in_process or multiprocess"
        )
    url = make_url(address)
    try:
        with closing(connect(url)) as connection, connection:
            yield connection
    except psycopg2.Error as error:
        raise records_error(error, url) from error
