"""Which run has a cycle: one at a time for each cycle of each schema, wherever it was started.

Runs of the UI wait in the queue (:mod:`irp_pipeline.orchestration.coordinator`), which counts other runs by their tag
``irp/lock``. ``irp run`` bypasses the queue, so it checks here first. Both decide under one lock in the database with
Dagster's records (:func:`irp_pipeline.orchestration.storage.sole_decision`): if two runs come at once, only one starts.

A run that was killed stays STARTED in Dagster for ever, but must not keep others out. On the same host, its process
shows whether it is lost; on another host, the leases of its steps and the age of its last log entry do.
"""

import datetime as dt
import re
from collections.abc import Sequence

import psutil
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.database import DatabaseError
from irp_pipeline.helpers.db_context import schema_context
from irp_pipeline.helpers.ending import has_live_step, workers_of
from irp_pipeline.orchestration.coordinator import schema_of_run
from irp_pipeline.orchestration.internals import PARTITION_NAME_TAG, WorkerStatus
from irp_pipeline.orchestration.run_worker import as_tag, process_in_tag, worker_of_run
from irp_pipeline.process import HostProcess, this_process

PROCESS_TAG = "irp/process"
"""The process of a run of the command line, as :func:`~irp_pipeline.orchestration.run_worker.as_tag` writes it."""

IN_PROGRESS = (DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
_UNFINISHED = (DagsterRunStatus.QUEUED, *IN_PROGRESS)

_EXECUTING = re.compile(r"Executing steps .*\(pid: (\d+)\)")
_SILENT_FOR = dt.timedelta(minutes=5)
_LOST = "The process of this run ended without a report; start it again to continue from there"


class BusyError(IrpError):
    """Another run has the cycle."""


def process_tag(run_id: str) -> dict[str, str]:
    """Return the tag by which others can tell whether a run of this process is still alive."""
    return {PROCESS_TAG: as_tag(run_id, this_process())}


def run_in_the_way(
    instance: DagsterInstance,
    schema: str,
    cycle: str,
    statuses: Sequence[DagsterRunStatus] = _UNFINISHED,
    only_command_line: bool = False,
) -> RunRecord | None:
    """Return the oldest run that has a cycle or waits for it, or None. Lost runs are recorded as failed.

    Args:
        instance: where the runs are recorded.
        schema: the PostgreSQL schema of the cycle.
        cycle: the cycle's name.
        statuses: only runs with these statuses.
        only_command_line: only runs of ``irp run``.
    """
    found = instance.get_run_records(RunsFilter(tags={PARTITION_NAME_TAG: cycle}, statuses=list(statuses)))
    for record in reversed(found):
        is_other = schema_of_run(record.dagster_run.run_config) != schema
        if is_other or (only_command_line and process_of(record.dagster_run) is None):
            continue
        if not is_lost(instance, record.dagster_run, schema):
            return record
        instance.report_run_failed(record.dagster_run, _LOST)
    return None


def busy(record: RunRecord, schema: str, cycle: str) -> BusyError:
    """Return the error for a cycle that another run has: which one, since when, and where to look."""
    run = record.dagster_run
    since = (
        record.create_timestamp if record.start_time is None else dt.datetime.fromtimestamp(record.start_time, dt.UTC)
    )
    process = process_of(run)
    where = f", in process {process.pid} on host {process.host}" if process is not None else ""
    return BusyError(
        f"The cycle {cycle!r} in schema {schema!r} has a run already: {run.run_id} of the job {run.job_name}, "
        f"{run.status.value} since {since:%Y-%m-%d %H:%M:%S} UTC{where}. Look at it in the UI (irp ui) under Runs, or "
        "with irp status; let it end or cancel it there, or say --wait to go on after it"
    )


def is_lost(instance: DagsterInstance, run: DagsterRun, schema: str) -> bool:
    """Tell whether no process works on an unfinished run any more.

    Args:
        instance: where the run is recorded.
        run: the run; a QUEUED run is waiting, not lost.
        schema: the PostgreSQL schema that it works in.
    """
    if run.status not in IN_PROGRESS:
        return False
    process = process_of(run) or worker_of_run(run)
    if process is not None and process.is_here():
        return process.is_gone()
    if process is None and instance.run_launcher.supports_check_run_worker_health:
        health = instance.run_launcher.check_run_worker_health(run)
        if health.status is WorkerStatus.FAILED:
            return True
        if health.run_worker_id is not None and health.status is WorkerStatus.RUNNING:
            return False
    try:
        with schema_context(schema):
            if has_live_step(run.run_id):
                return False
            hosted_here = any(worker.is_here() for worker in workers_of(run.run_id))
    except (DatabaseError, ValueError):
        return False  # nothing is known about it
    return (hosted_here and _executor_is_gone(instance, run)) or _is_silent(instance, run)


def is_over(instance: DagsterInstance, run_id: str, schema: str) -> bool:
    """Tell whether a run has ended, was deleted, or is lost."""
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished or is_lost(instance, run, schema)


def process_of(run: DagsterRun) -> HostProcess | None:
    """Return the process of a run of the command line, or None for another run."""
    return process_in_tag(run, PROCESS_TAG)


def _executor_is_gone(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Tell whether the process that executes a run, according to its log, no longer exists on this host."""
    events = instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    found = [match[1] for event in events if (match := _EXECUTING.search(event.user_message or event.message or ""))]
    return bool(found) and not psutil.pid_exists(int(found[-1]))


def _is_silent(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Tell whether a run has logged nothing for a long time."""
    newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    if not newest:
        return False
    said = dt.datetime.fromtimestamp(newest[0].event_log_entry.timestamp, dt.UTC)
    return dt.datetime.now(dt.UTC) - said > _SILENT_FOR
