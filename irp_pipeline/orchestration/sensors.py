"""Sensors: they keep partitions up to date, detect lost workers, follow batches, continue cycles, and send messages.

https://docs.dagster.io/guides/automate/sensors
"""

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.batch import Batch, batches_under_way, recon_batch, track_batch
from irp_pipeline.helpers.chain import has_failed
from irp_pipeline.helpers.constants import BatchStatus
from irp_pipeline.helpers.cycle_lookup import can_be_cycle_name, find_cycle, list_cycle_names
from irp_pipeline.helpers.database import DatabaseError
from irp_pipeline.helpers.db_context import get_schema_from_env, schema_context
from irp_pipeline.helpers.lost_runs import LostRun, close_lost_runs, latest_run_of_dagster_run
from irp_pipeline.helpers.messages import Outcome, find_services, send_due
from irp_pipeline.helpers.sign_off import find_sign_off, held_cycles
from irp_pipeline.helpers.wanted import chain_types
from irp_pipeline.orchestration.coordinator import schema_of_run
from irp_pipeline.orchestration.internals import PARTITION_NAME_TAG
from irp_pipeline.orchestration.messages import Progress, record_conditions, record_runs
from irp_pipeline.orchestration.occupancy import IN_PROGRESS, process_of
from irp_pipeline.orchestration.partitions import CYCLES, cycles
from irp_pipeline.orchestration.run_worker import worker_of_run
from irp_pipeline.postgres.schemas import list_initialised_schemas

_LOST_FOR = dt.timedelta(seconds=60)
_RUNS_LOOKED_AT = 100
_SENDING_SECONDS = 20.0


@sensor(minimum_interval_seconds=10, default_status=DefaultSensorStatus.RUNNING)
def partitions_follow_cycles(context: SensorEvaluationContext) -> SensorResult | SkipReason:
    """Make every cycle of the default schema a partition, even if archived, and remove those of deleted cycles."""
    schema = get_schema_from_env()
    try:
        with schema_context(schema):
            names = {name for name in list_cycle_names() if can_be_cycle_name(name)}
    except DatabaseError as error:
        return SkipReason(str(error))
    partitions = set(context.instance.get_dynamic_partitions(CYCLES))
    new, gone = sorted(names - partitions), sorted(partitions - names)
    if not new and not gone:
        return SkipReason(f"The partitions are the {len(names)} cycles of schema {schema}")
    requests = [cycles.build_add_request(new)] if new else []
    deletions = [cycles.build_delete_request(gone)] if gone else []
    return SensorResult(dynamic_partitions_requests=[*requests, *deletions])


@sensor(minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def lost_workers(context: SensorEvaluationContext) -> SkipReason:
    """Close the step runs of dead workers in every schema, and fail the Dagster runs that no process works on."""
    closed = [
        f"{schema}: run {run.lease.run_num} of step {run.step_name!r}"
        for schema in list_initialised_schemas()
        for run in _close_in(schema)
    ]
    failed = list(_fail_abandoned_runs(context.instance))
    for line in closed:
        context.log.warning(f"Closed a step run whose worker is lost. {line}")
    for run_id in failed:
        context.log.warning(f"Failed the run {run_id}: the workers of its steps are lost")
    return SkipReason(f"Closed {len(closed)} lost step runs and failed {len(failed)} abandoned runs")


def _close_in(schema: str) -> list[LostRun]:
    with schema_context(schema):
        return close_lost_runs()


def _fail_abandoned_runs(instance: DagsterInstance) -> Iterator[str]:
    """Fail each started run whose process is gone, or whose newest step run was closed as lost a while ago.

    A run whose process is alive reports the failure of a step itself, within seconds.
    """
    for run in instance.get_runs(RunsFilter(statuses=list(IN_PROGRESS))):
        process = process_of(run) or worker_of_run(run)
        if process is not None and process.is_gone():
            instance.report_run_failed(run, "The process of the run is gone; launch it again to continue from there")
            yield run.run_id
            continue
        if run.status is not DagsterRunStatus.STARTED:
            continue
        try:
            with schema_context(schema_of_run(run.run_config)):
                latest = latest_run_of_dagster_run(run.run_id)
        except (DatabaseError, ValueError):
            continue  # there is no such schema, or its name is invalid, so it has no records of the run
        if latest is None or not latest.lost or latest.completed_ts is None:
            continue
        if dt.datetime.now(dt.UTC) - latest.completed_ts < _LOST_FOR:
            continue
        instance.report_run_failed(
            run, "The workers of the run's steps are lost; launch it again to continue from there"
        )
        yield run.run_id


@sensor(job_name="run_cycle", minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def follow_batches(context: SensorEvaluationContext) -> SensorResult:
    """In every schema, follow the batches whose run ended before their jobs, and continue their cycles.

    A cycle continues when its batch, or one that came after it, is complete, unless another one of them has failed, and
    its last run covered the whole cycle and was not cancelled.
    """
    requests: list[RunRequest] = []
    told: list[str] = []
    for schema in list_initialised_schemas():
        try:
            with schema_context(schema):
                for batch in batches_under_way():
                    requests += _follow(context.instance, schema, batch, told)
        except IrpError as error:  # an unreadable schema, or an engine that is away, must not stop the others
            told.append(f"{schema}: its batches cannot be followed. {error}")
    for line in told:
        context.log.info(line)
    skipped = "\n".join(told) or "No batch is under way without a run"
    return SensorResult(run_requests=requests, skip_reason=None if requests else SkipReason(skipped))


def _follow(instance: DagsterInstance, schema: str, batch: Batch, told: list[str]) -> Iterator[RunRequest]:
    """Track and reconcile a batch that no run follows; ask for a run if its cycle can continue."""
    last = _last_run(instance, schema, batch.cycle_name)
    if last is not None and not last.is_finished:
        return  # that run follows the batch
    track_batch(batch.id)
    status = recon_batch(batch.id)
    told.append(f"{schema}: batch {batch.id} of cycle {batch.cycle_name} is {status}")
    continues = status is BatchStatus.COMPLETED and _is_of_pipeline(batch)
    if continues and last is not None and _may_continue(last):
        yield _continuation(schema, batch, last)


def _is_of_pipeline(batch: Batch) -> bool:
    """Tell whether a complete batch is one that the pipeline runs, and no other of its cycle has failed."""
    if batch.batch_type not in {declared.name for declared in chain_types()}:
        return False
    cycle = find_cycle(batch.cycle_name)
    return cycle is not None and not has_failed(cycle.id)


def _last_run(instance: DagsterInstance, schema: str, cycle: str) -> DagsterRun | None:
    """Return the newest run of a cycle in a schema."""
    runs = instance.get_runs(RunsFilter(tags={PARTITION_NAME_TAG: cycle}), limit=_RUNS_LOOKED_AT)
    return next((run for run in runs if schema_of_run(run.run_config) == schema), None)


def _may_continue(last: DagsterRun) -> bool:
    was_whole = last.job_name == "run_cycle" and not last.op_selection
    return was_whole and last.status is not DagsterRunStatus.CANCELED


def _continuation(schema: str, batch: Batch, last: DagsterRun) -> RunRequest:
    return RunRequest(
        # One request for each end of the batch. It can be repaired and end again, but only after another run.
        run_key=f"{schema}/{batch.id}/{last.run_id}",
        run_config=_without_rerun(last.run_config),
        tags={PARTITION_NAME_TAG: batch.cycle_name},
    )


@sensor(job_name="run_cycle", minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def continue_approved(context: SensorEvaluationContext) -> SensorResult:
    """In every schema, continue the cycles whose results waited for the approval that has come."""
    requests: list[RunRequest] = []
    told: list[str] = []
    for schema in list_initialised_schemas():
        try:
            with schema_context(schema):
                requests += _continue_approved(context.instance, schema)
        except IrpError as error:  # an unreadable schema must not stop the others
            told.append(f"{schema}: its approvals cannot be read. {error}")
    for line in told:
        context.log.info(line)
    skipped = "\n".join(told) or "No results wait for an approval that has come"
    return SensorResult(run_requests=requests, skip_reason=None if requests else SkipReason(skipped))


def _continue_approved(instance: DagsterInstance, schema: str) -> Iterator[RunRequest]:
    """Ask for a run of each cycle that can go on, unless a run of it is under way or the last one was cancelled."""
    for cycle in held_cycles():
        found = find_sign_off(cycle.cycle_id)
        if not found.is_approved:
            continue
        last = _last_run(instance, schema, cycle.cycle_name)
        if last is not None and (not last.is_finished or last.status is DagsterRunStatus.CANCELED):
            continue
        config = last.run_config if last is not None and last.job_name == "run_cycle" else {}
        database = {"resources": {"database": {"config": {"db_schema": schema}}}}
        yield RunRequest(
            run_key=f"{schema}/approved/{cycle.step_run_id}/{found.content_hash}",
            run_config=_without_rerun(config or database),
            tags={PARTITION_NAME_TAG: cycle.cycle_name},
        )


def _without_rerun(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's config for the run that continues it, without the request to repeat steps."""
    config: dict[str, Any] = deepcopy(dict(run_config))
    database = config.setdefault("resources", {}).setdefault("database", {}).setdefault("config", {})
    database.pop("rerun_completed", None)
    return config


@sensor(minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def messages(context: SensorEvaluationContext) -> SkipReason:
    """Tell people of runs that failed or finished, batches that ended badly, and stuck jobs, as IRP_MESSAGES says.

    An unusable IRP_MESSAGES fails the tick. Nothing is lost by that: the cursor stays where it is.
    """
    services = find_services()
    if services is None:
        if context.cursor:
            context.update_cursor("")
        return SkipReason("IRP_MESSAGES is not set, so nobody is told anything")
    told = list(services.problems)
    schemas = list_initialised_schemas()
    progress = Progress.of_cursor(context.cursor)
    jobs = None if context.repository_def is None else set(context.repository_def.job_names)
    progress = record_runs(context.instance, jobs, schemas, services, progress, told)
    until, outcome = time.monotonic() + _SENDING_SECONDS, Outcome()
    for schema in schemas:
        try:
            with schema_context(schema):
                record_conditions(context.instance, schema, services, progress.since)
                send_due(services.usable, until, outcome)
        except IrpError as error:  # an unreadable schema must not stop the others
            told.append(f"{schema}: its messages cannot be sent. {error}")
    context.update_cursor(progress.as_cursor())
    told += [f"{service}: {problem}. It is tried again later" for service, problem in outcome.problems.items()]
    for line in told:
        context.log.warning(line)
    return SkipReason(f"Sent {outcome.sent} messages; {len(told)} problems")
