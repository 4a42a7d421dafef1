"""A worker: takes jobs from the queue while it has a free slot, renews their leases, and ends without losing one.

procrastinate fetches tasks and hears of new ones; everything about a job is done in threads of our own, through our own
connections. So an outage of the database, or of procrastinate's connection, does not touch a job that runs: it goes on,
and is reported when the database is back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import procrastinate
import psycopg
from procrastinate.worker import Worker as Fetcher

from irp_pipeline import embedded, settings
from irp_pipeline.engines import JobPhase, leases
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.postgres.connections import is_pooled
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.process import this_process
from irp_pipeline.queue.names import DEFAULT_QUEUE, QUEUE_SCHEMA
from irp_pipeline.queue.tasks import TASK, enqueue, queue_name, queue_prefix, queues_with_work, release_abandoned
from irp_pipeline.workers import presence
from irp_pipeline.workers.job import JobRun

_log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 60.0
"""How long jobs may go on when their worker is asked to end."""

_HEARTBEAT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_FETCH_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 2.0
_LAST_SECONDS: Final = 15.0
_PATIENCE_SECONDS: Final = 5.0
"""How long procrastinate waits for a connection."""


class WorkerError(IrpError):
    """A worker cannot be started as asked."""


class Worker:
    """A worker of this process.

    Args:
        slots: how many jobs it runs at once.
        queues: the names of the queues that it takes jobs from; empty: all of this installation.
        idle_seconds: it ends when nothing has waited or run for so long; None: it waits for ever.
        grace_seconds: how long jobs may go on when it is asked to end.
    """

    def __init__(
        self,
        slots: int,
        queues: Collection[str] = (),
        *,
        idle_seconds: float | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._slots = slots
        self._takes_all = not queues
        self._queues = [queue_name(name) for name in (queues or (DEFAULT_QUEUE,))]
        self._idle_seconds = idle_seconds
        self._grace_seconds = grace_seconds
        self._runs: set[JobRun] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._give_up = threading.Event()
        self._was_away = threading.Event()
        self._over = threading.Event()
        self._fetcher: Fetcher | None = None

    def run(self) -> None:
        """Work until :meth:`stop` is called, or there has been nothing to do for the given time.

        Raises:
            WorkerError: the database is behind a connection pooler.
            DatabaseError: the server is away as the worker starts, or there is no queue in the database.
        """
        if is_pooled():
            raise WorkerError(
                "A worker cannot work through a connection pooler: it hears of new jobs by LISTEN, which does not pass "
                "one. Set IRP_DATABASE_URL to the server itself for workers"
            )
        worker_id = presence.arrive(self._slots, [queue_prefix()] if self._takes_all else self._queues)
        beats = threading.Thread(target=self._beat, args=(worker_id,), name="irp-heartbeats", daemon=True)
        beats.start()
        try:
            asyncio.run(self._work())
        finally:
            self._over.set()
            beats.join()
            if not _is_stopped():
                with suppress(DatabaseError):
                    presence.leave(worker_id)

    @property
    def is_stopped(self) -> bool:
        """Whether this worker was asked to end, or the embedded server was."""
        return self._stop.is_set()

    def stop(self, *, grace_seconds: float | None = None) -> None:
        """Take no more jobs, and end when those at work have ended; from any thread or signal handler.

        Args:
            grace_seconds: how long jobs may go on; None: as given when the worker was made.
        """
        if grace_seconds is not None:
            self._grace_seconds = grace_seconds
        self._stop.set()

    # The loop of procrastinate, and its end.

    async def _work(self) -> None:
        self._is_ending = False
        self._free = asyncio.Semaphore(self._slots)
        self._under_way: set[asyncio.Future[None]] = set()
        self._threads = ThreadPoolExecutor(self._slots, thread_name_prefix="irp-job")
        serving = asyncio.create_task(self._serve())
        try:
            await self._until_end(serving)
        finally:
            self._is_ending = True
            if self._fetcher is not None:
                self._fetcher.stop()  # type: ignore[no-untyped-call]
            serving.cancel()
            await asyncio.wait([serving])
            await self._end_jobs()
            self._threads.shutdown()

    async def _until_end(self, serving: asyncio.Task[None]) -> None:
        """Wait until somebody asks this worker to end, or it has been idle for long enough."""
        idle_since = time.monotonic()
        while not self._stop.is_set():
            await asyncio.sleep(0.1)
            if serving.done():
                serving.result()  # which raises: it does not end otherwise
            if self._under_way:
                idle_since = time.monotonic()
            elif self._idle_seconds is not None and time.monotonic() - idle_since > self._idle_seconds:
                if _is_stopped():
                    self.stop()
                elif not await self._look(lambda: queues_with_work(queue_prefix())):
                    return
                idle_since = time.monotonic()

    async def _serve(self) -> None:
        """Let procrastinate fetch tasks; begin again if its connection or the server was away."""
        while not self._is_ending:
            try:
                await self._look(release_abandoned)
                app = procrastinate.App(connector=_connector())
                app.task(name=TASK, pass_context=True)(self._take)
                async with app.open_async():
                    self._was_away.clear()
                    self._fetcher = Fetcher(
                        app,
                        queues=self._queues,
                        name=None,
                        concurrency=self._slots,
                        fetch_job_polling_interval=_FETCH_SECONDS,
                        delete_jobs="always",
                        install_signal_handlers=False,
                        shutdown_graceful_timeout=0,
                    )
                    await self._fetcher.run()  # type: ignore[no-untyped-call]
            except (procrastinate.exceptions.ProcrastinateException, psycopg.Error, OSError) as error:
                # Also in place of its cancellation, if that comes while the database is away.
                _log.warning("The queue is away: %s", error)
            if not self._is_ending:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _take(self, context: procrastinate.JobContext, schema: str, key: str) -> None:
        """Run the job of a task. It goes on if procrastinate ends this call."""
        run = asyncio.ensure_future(self._run(context.job.queue, schema, key))
        self._under_way.add(run)
        run.add_done_callback(self._under_way.discard)
        await asyncio.shield(run)

    async def _run(self, queue: str, schema: str, key: str) -> None:
        async with self._free:
            if self._stop.is_set():
                await self._look(lambda: _put_back(queue, schema, key))
                return
            run = JobRun(schema, key, self._give_up, self._free_processes)
            with self._lock:
                self._runs.add(run)
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, run.run)
            except Exception:
                _log.exception("The job %s of schema %s cannot be run", key, schema)
            finally:
                with self._lock:
                    self._runs.discard(run)

    async def _end_jobs(self) -> None:
        """Let the jobs at work end, within the time for that; then end them."""
        # A job that was taken just as the worker was about to end by itself has all the time that it needs.
        await self._wait_for_jobs(lambda: self._grace_seconds if self._stop.is_set() else math.inf)
        for run in self._now():
            run.end(
                JobPhase.FAILED,
                f"Its worker on host {this_process().host} was asked to end, and the job still ran "
                f"{self._grace_seconds:g} s later",
            )
        await self._wait_for_jobs(lambda: _LAST_SECONDS)
        self._give_up.set()  # what is not reported is in the jobs' files
        await self._wait_for_jobs(lambda: _LAST_SECONDS)

    async def _wait_for_jobs(self, seconds: Callable[[], float]) -> None:
        began = time.monotonic()
        while self._under_way and time.monotonic() - began < seconds():
            await asyncio.wait([*self._under_way], timeout=0.1)

    async def _look(self, statement: Callable[[], Any]) -> Any:
        """Run a statement in a thread; None if the database is away."""
        try:
            return await asyncio.to_thread(statement)
        except DatabaseError as error:
            _log.warning("The database is away: %s", error.args[0])
            return None

    # The thread that renews leases.

    def _beat(self, worker_id: int) -> None:
        last_beat = time.monotonic()
        said: dict[JobRun, str | None] = {}
        while not self._over.wait(_LOOK_SECONDS):
            if self._idle_seconds is not None and not self._now() and _is_stopped():
                self.stop()
                continue
            runs = [run for run in self._now() if run.is_begun]
            doing = {run: run.doing for run in runs}
            is_due = time.monotonic() - last_beat > _HEARTBEAT_SECONDS
            try:
                if is_due or any(said.get(run) != words for run, words in doing.items()):
                    self._renew(runs, doing)
                    said = doing
                self._hear(runs)
                if is_due:
                    presence.stay(worker_id, is_ending=self._stop.is_set())
                    last_beat = time.monotonic()
                if self._takes_all:
                    self._learn_queues()
            except DatabaseError as error:
                _log.warning("The leases of the jobs could not be renewed, trying again: %s", error.args[0])
                self._was_away.set()
                continue
            except Exception:
                _log.exception("The leases of the jobs could not be renewed, trying again")
                continue
            if self._was_away.is_set() and self._fetcher is not None:
                self._was_away.clear()
                self._fetcher.stop()  # type: ignore[no-untyped-call] # its own heartbeat may have ended with the connection

    def _free_processes(self) -> int:
        """Return how many processes a job may use that begins now: one less than the others leave, at least one."""
        return max(1, len(os.sched_getaffinity(0)) - sum(run.processes for run in self._now()) - 1)

    def _now(self) -> list[JobRun]:
        with self._lock:
            return list(self._runs)

    def _renew(self, runs: Collection[JobRun], doing: dict[JobRun, str | None]) -> None:
        for schema, of_schema in _by_schema(runs).items():
            with schema_context(schema):
                held = leases.renew(
                    {run.key: run.token for run in of_schema}, {run.key: doing[run] for run in of_schema}
                )
            for run in of_schema:
                if run.key not in held:
                    run.lose()

    def _hear(self, runs: Collection[JobRun]) -> None:
        for schema, of_schema in _by_schema(runs).items():
            with schema_context(schema):
                asked = leases.asked_to_end([run.key for run in of_schema])
            for run in of_schema:
                if run.key in asked:
                    run.end(JobPhase.CANCELLED, "It was cancelled while it ran")

    def _learn_queues(self) -> None:
        """Take jobs from queues that were not there before; procrastinate reads the list at each fetch."""
        self._queues += [name for name in queues_with_work(queue_prefix()) if name not in self._queues]


def _is_stopped() -> bool:
    """Tell whether somebody has stopped the embedded server, which any statement would start again."""
    return settings.database_source() == "embedded" and not embedded.is_running(settings.irp_home())


def _put_back(queue: str, schema: str, key: str) -> None:
    with schema_context(schema):
        enqueue({key: queue})


def _by_schema(runs: Collection[JobRun]) -> dict[str, list[JobRun]]:
    grouped: dict[str, list[JobRun]] = defaultdict(list)
    for run in runs:
        grouped[run.schema].append(run)
    return grouped


def _connector() -> procrastinate.PsycopgConnector:
    """Return a connector to our database, in the schema of the queue."""
    url = settings.database_url()
    wanted = {
        "host": url.host,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
        "connect_timeout": settings.connect_timeout_seconds(),
        **url.query,
        "options": f"-c search_path={QUEUE_SCHEMA}",
    }
    return procrastinate.PsycopgConnector(
        kwargs={name: value for name, value in wanted.items() if value is not None},
        min_size=1,
        max_size=4,
        timeout=_PATIENCE_SECONDS,
    )
