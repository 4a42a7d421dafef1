"""Running a cycle from a program: in this process, with its events as they happen; Ctrl-C cancels the run."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from typing import Any

from dagster import DagsterEvent, DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition, reconstructable

from irp_pipeline import settings
from irp_pipeline.definitions import definitions
from irp_pipeline.orchestration.coordinator import IN_TRAIL_TAG, run_tags, schema_of_run
from irp_pipeline.orchestration.executors import PRELOADED
from irp_pipeline.orchestration.instance import CODE_LOCATION
from irp_pipeline.orchestration.internals import (
    OF_ITS_OWN,
    PARTITION_NAME_TAG,
    PARTITION_SET_TAG,
    execute_run_iterator,
    make_new_run_id,
    origin_of_job,
    partition_set_of_job,
    setup_interrupt_handlers,
)
from irp_pipeline.orchestration.occupancy import BusyError, busy, is_over, process_tag, run_in_the_way
from irp_pipeline.orchestration.storage import sole_decision

_WAIT_POLL_SECONDS = 1.0
_LOG_POLL_SECONDS = 1.0
_WAKE = signal.SIGURG  # has no other use here, and is ignored by default


def run_cycle_job() -> JobDefinition:
    """Return the job ``run_cycle`` with its resources and its executor."""
    return definitions.get_job_def("run_cycle")


@contextmanager
def running_cycle(
    instance: DagsterInstance,
    cycle: str,
    run_config: Mapping[str, Any],
    op_selection: Sequence[str] | None = None,
    waiting: Callable[[BusyError], None] | None = None,
) -> Iterator[tuple[DagsterRun, Iterator[DagsterEvent]]]:
    """Run ``run_cycle`` in this process without the queue, as ``dagster job execute`` does.

    Each cycle of a schema has one run at a time, wherever it was started.

    Args:
        instance: where the run is recorded.
        cycle: the partition.
        run_config: config of resources and ops.
        op_selection: which ops; None means all.
        waiting: called once, before waiting for another run that has the cycle; None means not to wait.

    Yields:
        The run, and its events as they happen. The run makes progress as the events are taken.

    Raises:
        BusyError: another run has the cycle, and ``waiting`` is None.
    """
    run = _claim(instance, cycle, run_config, op_selection, waiting)
    job = reconstructable(run_cycle_job)
    if op_selection:
        job = job.get_subset(op_selection=op_selection)
    with _private_files(), _cancelling_on_interrupt(instance, run):
        yield run, execute_run_iterator(job, run, instance)


def _claim(
    instance: DagsterInstance,
    cycle: str,
    run_config: Mapping[str, Any],
    op_selection: Sequence[str] | None,
    waiting: Callable[[BusyError], None] | None,
) -> DagsterRun:
    """Create the run as soon as no other run has its cycle."""
    schema = schema_of_run(run_config)
    while True:
        with sole_decision(instance):
            other = run_in_the_way(instance, schema, cycle)
            if other is None:
                return _make_run(instance, cycle, run_config, op_selection)
        problem = busy(other, schema, cycle)
        if waiting is None:
            raise problem
        waiting(problem)
        while not is_over(instance, other.dagster_run.run_id, schema):
            time.sleep(_WAIT_POLL_SECONDS)


def _make_run(
    instance: DagsterInstance, cycle: str, run_config: Mapping[str, Any], op_selection: Sequence[str] | None
) -> DagsterRun:
    job = run_cycle_job()
    partition = {PARTITION_NAME_TAG: cycle}
    # Without these two, the UI lists the run neither under its job nor under its partition.
    found_by = {PARTITION_SET_TAG: partition_set_of_job(job.name)}
    run_id = make_new_run_id()
    return instance.create_run_for_job(
        job,
        run_id=run_id,
        run_config=run_config,
        status=DagsterRunStatus.STARTING,  # the queue counts it from here on
        tags=partition | found_by | run_tags(run_config, partition) | process_tag(run_id) | {IN_TRAIL_TAG: run_id},
        op_selection=op_selection,
        job_code_origin=reconstructable(run_cycle_job).get_python_origin(),  # where a worker elsewhere finds the code
        remote_job_origin=origin_of_job(CODE_LOCATION, definitions.get_repository_def().name, job.name),
    )


@contextmanager
def following_log(instance: DagsterInstance, run_id: str, show: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Within the block, show what the steps of a run log as it happens, whichever process they run in.

    Args:
        instance: where the run is recorded.
        run_id: the run.
        show: called with each message of level INFO and above, from another thread or within ``catch_up``.

    Yields:
        ``catch_up``, which shows what has been logged so far. Call it at the end of a step, so that the step's
        messages do not appear below the next step.
    """
    ended = threading.Event()
    reading = threading.Lock()
    cursor: str | None = None

    def catch_up() -> None:
        nonlocal cursor
        # If the database is away, the run ends and says so; this thread must not print a traceback too.
        with reading, suppress(Exception):
            page = instance.get_records_for_run(run_id, cursor)
            cursor = page.cursor
            for record in page.records:
                entry = record.event_log_entry
                is_told = entry.dagster_event is None and int(entry.level) >= logging.INFO
                if is_told and not OF_ITS_OWN.fullmatch(entry.user_message):
                    show(entry.user_message)

    def follow() -> None:
        while not ended.wait(_LOG_POLL_SECONDS):
            catch_up()

    thread = threading.Thread(target=follow, name="irp-follow-log", daemon=True)
    thread.start()
    try:
        yield catch_up
    finally:
        ended.set()
        thread.join()
        catch_up()


@contextmanager
def _private_files() -> Iterator[None]:
    """Keep the files that Dagster and the steps write private to their owner."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _cancelling_on_interrupt(instance: DagsterInstance, run: DagsterRun) -> Iterator[None]:
    """Turn Ctrl-C into a cancellation that is recorded before anything is interrupted.

    Dagster takes an interrupt for a failure unless the run is already CANCELING. So a thread takes the signal first,
    sets that status, and raises the same signal again: a database driver cancels its query only on SIGINT.
    """
    done = threading.Event()
    main = threading.main_thread().ident or 0

    def cancel() -> None:
        signal.sigwait({signal.SIGINT})
        if done.is_set():
            return
        with suppress(Exception):  # an interrupt must work even if the database is away
            instance.report_run_canceling(run)
        # The signal is blocked in the main thread, so raise it here. Python still runs the handler in the main
        # thread, as soon as that is woken from its wait.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.raise_signal(signal.SIGINT)
        signal.pthread_kill(main, _WAKE)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, _WAKE)}
    if settings.executor() == "multiprocess":
        # Starting it with the first step would make it inherit the blocked signal, and unblock the signal here.
        forkserver.set_forkserver_preload([PRELOADED])
        forkserver.ensure_running()
    setup_interrupt_handlers()
    signal.signal(_WAKE, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    watcher = threading.Thread(target=cancel, name="irp-cancel", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        if watcher.is_alive():
            signal.pthread_kill(watcher.ident or 0, signal.SIGINT)
            watcher.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for number, handler in before.items():
            signal.signal(number, handler)
