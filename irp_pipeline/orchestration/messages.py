"""The messages about runs, batches and jobs: what is told of each, and recording them.

The sensor ``messages`` (:mod:`irp_pipeline.orchestration.sensors`) calls this at each tick. Not here: who gets them,
and sending (:mod:`irp_pipeline.helpers.messages`).
"""

from __future__ import annotations

import datetime as dt
import json
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord, RunsFilter

from irp_pipeline import settings
from irp_pipeline.durations import duration_in_words
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.db_context import get_current_schema, get_schema_from_env, schema_context
from irp_pipeline.helpers.messages import (
    BadEnd,
    Event,
    Message,
    Services,
    StuckJob,
    WaitingBatch,
    batches_ended_badly,
    record_message,
    recorded_keys,
    stuck_jobs,
    waiting_batches,
)
from irp_pipeline.helpers.sign_off import SignOffState, find_sign_off, held_cycles
from irp_pipeline.orchestration.coordinator import schema_of_run
from irp_pipeline.orchestration.internals import PARTITION_NAME_TAG
from irp_pipeline.postgres.running import fetch_one

_EVENTS = {DagsterRunStatus.FAILURE: Event.FAILED, DagsterRunStatus.SUCCESS: Event.FINISHED}
_REPORT_STEP = "report.cycle_report"
_OVERLAP = dt.timedelta(minutes=5)
"""Dagster notes the time of a change by the clock of whoever makes it."""
_TRIED_FOR = dt.timedelta(days=1)
"""How long a message that cannot be recorded is tried again, such as while its schema is not upgraded."""
_RUNS_A_TICK = 20
_RUNS_LOOKED_AT = 100
_ERROR_CHARACTERS = 1500


@dataclass(frozen=True)
class Progress:
    """How far the sensor has come, which is its cursor.

    Attributes:
        since: when messages were switched on. What ended before is not told.
        runs: runs that changed before this have been looked at.
    """

    since: dt.datetime
    runs: dt.datetime

    @staticmethod
    def of_cursor(cursor: str | None) -> Progress:
        """Return what a cursor says; without one, messages begin now."""
        now = dt.datetime.now(dt.UTC)
        if not cursor:
            return Progress(now, now)
        said = json.loads(cursor)
        return Progress(dt.datetime.fromisoformat(said["since"]), dt.datetime.fromisoformat(said["runs"]))

    def as_cursor(self) -> str:
        """Return it as a cursor."""
        return json.dumps({"since": self.since.isoformat(), "runs": self.runs.isoformat()})


def record_runs(
    instance: DagsterInstance,
    jobs: Collection[str] | None,
    schemas: Sequence[str],
    services: Services,
    progress: Progress,
    told: list[str],
) -> Progress:
    """Record a message for each run that has failed or finished.

    Args:
        instance: Dagster's.
        jobs: the names of the jobs whose runs count; None means all.
        schemas: those that can hold messages. Runs of others have theirs in the default schema.
        services: who gets messages.
        progress: how far this has come.
        told: gets a line for each message that cannot be recorded.

    Returns:
        The new progress, which is not after a run whose message could not be recorded.
    """
    events = {status: event for status, event in _EVENTS.items() if services.told(event)}
    now = dt.datetime.now(dt.UTC)
    if not events:
        return replace(progress, runs=now)
    changed = instance.get_run_records(
        RunsFilter(statuses=list(events), updated_after=max(progress.since, progress.runs - _OVERLAP)),
        order_by="update_timestamp",
        ascending=True,
    )
    runs, failing, recorded = progress.runs, None, 0
    for record in changed:
        run, changed_at = record.dagster_run, _utc(record.update_timestamp)
        if recorded >= _RUNS_A_TICK:
            break
        if _ended_since(record, progress.since) and (jobs is None or run.job_name in jobs):
            try:
                recorded += _record_run(instance, run, events[run.status], schemas, services)
            except IrpError as error:  # of one schema, which must not stop the others
                told.append(f"The message about run {run.run_id} cannot be recorded. {error}")
                if failing is None and now - changed_at < _TRIED_FOR:
                    failing = changed_at
        runs = max(runs, changed_at)
    return replace(progress, runs=runs if failing is None else min(runs, failing))


def _record_run(
    instance: DagsterInstance, run: DagsterRun, event: Event, schemas: Sequence[str], services: Services
) -> bool:
    """Record the message about a run, if it is to have one and has none yet; tell whether it was looked into."""
    key = f"run/{run.run_id}/{event}"
    schema = schema_of_run(run.run_config)
    with schema_context(schema if schema in schemas else get_schema_from_env()):
        if recorded_keys([key]):
            return False
        message = _failed_run(instance, run, schema, key) if event is Event.FAILED else _finished_run(run, schema, key)
        if message is None:
            return False
        record_message(message, services.told(event))
    return True


def record_conditions(instance: DagsterInstance, schema: str, services: Services, since: dt.datetime) -> None:
    """Record, in the current schema, a message for each stuck job, each bad end without a run, each approval wanted.

    Args:
        instance: Dagster's.
        schema: the current schema.
        services: who gets messages.
        since: batches that ended before are left out.

    Raises:
        DatabaseError: the schema has older tables, or the server is away.
    """
    messages: list[Message] = []
    if services.told(Event.STUCK):
        messages += [_stuck_job(job, schema) for job in stuck_jobs()]
        messages += [_waiting_batch(batch, schema) for batch in waiting_batches()]
    if services.told(Event.FAILED):
        recent = max(since, dt.datetime.now(dt.UTC) - _TRIED_FOR)
        messages += [_bad_end(batch, schema) for batch in _without_run(instance, schema, batches_ended_badly(recent))]
    if services.told(Event.APPROVAL):
        messages += _approvals_wanted(schema)
    known = recorded_keys(message.key for message in messages)
    for message in messages:
        if message.key not in known:
            record_message(message, services.told(message.event))


def _without_run(instance: DagsterInstance, schema: str, ended: Sequence[BadEnd]) -> Iterator[BadEnd]:
    """Yield the batches that ended while no run of their cycle was under way: such a run fails, and that is told."""
    for batch in ended:
        runs = instance.get_run_records(RunsFilter(tags={PARTITION_NAME_TAG: batch.cycle_name}), limit=_RUNS_LOOKED_AT)
        at = batch.completed_ts.timestamp()
        if not any(
            record.start_time is not None
            and record.start_time <= at <= (record.end_time or at)
            and schema_of_run(record.dagster_run.run_config) == schema
            for record in runs
        ):
            yield batch


# --- the texts ----------------------------------------------------------------------------------------------------


def _failed_run(instance: DagsterInstance, run: DagsterRun, schema: str, key: str) -> Message:
    cycle = run.tags.get(PARTITION_NAME_TAG)
    step, error = _reason(instance, run)
    about = cycle or run.job_name
    commands = []
    if cycle:
        commands = [f"Why: irp history {_arguments(cycle, schema)} --full"]
        commands += [f"Once it is mended: irp run {_arguments(cycle, schema)}"]
    return Message(
        key=key,
        event=Event.FAILED,
        title=f"{about} failed at {step}" if step else f"{about} failed",
        body=_lines(f"Job {run.job_name}, schema {schema}.", _cut(error), *commands, _link(run)),
    )


def _reason(instance: DagsterInstance, run: DagsterRun) -> tuple[str | None, str]:
    """Return the first step that failed, if any, and the error."""
    for kind in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE):
        for record in instance.get_records_for_run(run.run_id, of_type=kind, limit=1).records:
            event = record.event_log_entry.dagster_event
            if event is None:
                continue
            if kind is DagsterEventType.RUN_FAILURE:
                return None, event.message or "The run failed"
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return event.step_key, data.user_failure_data.description
            if data.error:
                return event.step_key, (data.error.cause or data.error).message.strip()
            return event.step_key, event.message or "The step failed"
    return None, "The run failed"


def _finished_run(run: DagsterRun, schema: str, key: str) -> Message | None:
    """Return the message about a run that wrote the report of its cycle, or found it unchanged; None for others."""
    cycle = run.tags.get(PARTITION_NAME_TAG)
    if cycle is None or schema != get_current_schema():
        return None
    step = fetch_one(
        """
        SELECT r.output_data FROM irp_step_run r JOIN irp_step st ON st.id = r.step_id
         WHERE r.dagster_run_id = %s AND st.step_key = %s AND r.status IN ('COMPLETED', 'SKIPPED')
         ORDER BY r.id DESC LIMIT 1
        """,
        (run.run_id, _REPORT_STEP),
    )
    if step is None:
        return None
    from irp_pipeline.report import State, collect
    from irp_pipeline.report.display import amount, headline_figures

    report = collect(cycle)
    headline = headline_figures(report)
    figures = [f"{item.words}: {amount(item.figure.loss)} {item.currency}" for item in headline]
    if headline:
        figures.insert(0, f"{headline[0].subject}, {headline[0].figure.perspective}:")
    complete = report.state is State.COMPLETED
    output = step["output_data"] if isinstance(step["output_data"], dict) else {}
    return Message(
        key=key,
        event=Event.FINISHED,
        title=f"{cycle} is complete" if complete else f"{cycle} has run, and its figures are {report.state}",
        body=_lines(
            f"Schema {schema}.",
            *report.missing,
            *figures,
            f"Report: {output['report']}" if "report" in output else None,
            f"Sign-off: {report.sign_off}" if report.sign_off is not None and report.sign_off.decision else None,
            f"To see it: irp report {_arguments(cycle, schema)} --open",
            _link(run),
        ),
    )


def _bad_end(batch: BadEnd, schema: str) -> Message:
    return Message(
        key=f"batch/{batch.batch_id}/{batch.status}/{batch.completed_ts.isoformat()}",
        event=Event.FAILED,
        title=f"{batch.cycle_name}: batch {batch.batch_id} is {batch.status}",
        body=_lines(
            f"Schema {schema}. It ended while no run followed it. Jobs that failed: {batch.jobs}.",
            _cut(batch.error) if batch.error else None,
            f"Its jobs: irp batch show {batch.batch_id} --db-schema {shlex.quote(schema)}",
            f"Once they are mended: irp run {_arguments(batch.cycle_name, schema)}",
        ),
    )


def _stuck_job(job: StuckJob, schema: str) -> Message:
    analysis = f" ({job.analysis})" if job.analysis else ""
    since = duration_in_words(job.seconds)
    problem = f"has not been heard of for {since}" if job.is_silent else f"has been at work for {since}"
    return Message(
        key=f"job/{job.job_id}/{'silent' if job.is_silent else 'long'}/{job.attempt}",
        event=Event.STUCK,
        title=f"{job.cycle_name}: job {job.job_id}{analysis} {problem}",
        body=_lines(
            f"Schema {schema}, batch {job.batch_id}, {f'on host {job.host}' if job.host else 'host not known'}.",
            f"What it does: irp job log {job.job_id} --db-schema {shlex.quote(schema)}",
            f"To end it: irp job cancel {job.job_id} --db-schema {shlex.quote(schema)}",
        ),
    )


def _waiting_batch(batch: WaitingBatch, schema: str) -> Message:
    return Message(
        key=f"batch/{batch.batch_id}/waiting",
        event=Event.STUCK,
        title=f"{batch.cycle_name}: no worker takes the jobs of batch {batch.batch_id}",
        body=_lines(
            f"Schema {schema}. {batch.jobs} wait, the first for {duration_in_words(batch.seconds)}.",
            "Which workers there are: irp worker list",
            "To start one: irp worker",
        ),
    )


def _approvals_wanted(schema: str) -> Iterator[Message]:
    """Yield a message for each cycle whose results wait for a decision: one for the same figures."""
    for cycle in held_cycles():
        found = find_sign_off(cycle.cycle_id)
        if found.state in {SignOffState.WAITING, SignOffState.VOID} and found.figures:
            name = cycle.cycle_name
            yield Message(
                key=f"approval/{cycle.cycle_id}/{found.content_hash}",
                event=Event.APPROVAL,
                title=f"{name} waits for approval",
                body=_lines(
                    f"Schema {schema}. Its results are not written into files before that.",
                    f"{found}",
                    f"The report: irp report {_arguments(name, schema)} --open",
                    f"To approve: irp approve {_arguments(name, schema)} --seen {found.short_hash}",
                    f"Or: irp reject {_arguments(name, schema)} --reason TEXT",
                ),
            )


def _lines(*lines: str | None) -> str:
    return "\n".join(line for line in lines if line)


def _arguments(cycle: str, schema: str) -> str:
    return f"{shlex.quote(cycle)} --db-schema {shlex.quote(schema)}"


def _link(run: DagsterRun) -> str:
    address = settings.ui_url()
    return f"The run: {address}/runs/{run.run_id}" if address else f"The run in the UI: {run.run_id}"


def _cut(text: str) -> str:
    return text if len(text) <= _ERROR_CHARACTERS else f"{text[:_ERROR_CHARACTERS]} …"


def _ended_since(record: RunRecord, since: dt.datetime) -> bool:
    return record.end_time is None or record.end_time >= since.timestamp()


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
