"""The executor that hands each step to a worker of Celery, on whatever host it is.

Steps travel by RabbitMQ or Redis with the application of dagster-celery. What becomes of them is read from Dagster's
records, as dagster-k8s does, and not from Celery's results: the executor of dagster-celery waits without end for the
result of a lost worker, and a cancellation does not reach a step that has begun.

=======================  ============================================================================================
what happens             what the run does
=======================  ============================================================================================
the broker is away       sends the step again later
a message is lost        sends the step again, at growing intervals; only one worker can begin it
the worker is lost       the step fails: at once if its process was on this host, else after a minute without heartbeat
the run is cancelled     waits for the step, which hears of it by its lease (:mod:`irp_pipeline.helpers.heartbeat`)
=======================  ============================================================================================

https://docs.dagster.io/deployment/oss/deployment-options/celery
"""

import time
from collections.abc import Iterator
from typing import Any

from celery import Celery
from dagster import (
    DagsterEvent,
    DagsterEventType,
    Executor,
    ExecutorDefinition,
    InitExecutorContext,
    executor,
    multiple_process_executor_requirements,
)
from dagster_celery.tags import (
    DAGSTER_CELERY_QUEUE_TAG,
    DAGSTER_CELERY_RUN_PRIORITY_TAG,
    DAGSTER_CELERY_STEP_PRIORITY_TAG,
)
from kombu.exceptions import OperationalError

from irp_pipeline import settings
from irp_pipeline.helpers.heartbeat import HEARTBEAT_SECONDS
from irp_pipeline.orchestration import step_workers
from irp_pipeline.orchestration.celery_app import EXECUTE_STEP, make_celery
from irp_pipeline.orchestration.internals import (
    RETRIES_OF_OPS,
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
    say_of_step,
    what_a_step_needs,
)

_FIRST_PATIENCE_SECONDS = 60.0
_LONGEST_PATIENCE_SECONDS = 3600.0
_CANCEL_SECONDS = 60.0  # as long as a lease lasts
_POLL_SECONDS = 0.5
_CHECK_SECONDS = 5
_ENDED = frozenset({DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY})


def celery_executor() -> ExecutorDefinition:
    """Return the executor. Broker and queue come from the environment, never from run config.

    Raises:
        SettingsError: ``IRP_CELERY_BROKER`` is not set, or is no address of a broker.
    """
    settings.celery_broker()  # so that no run begins without it

    @executor(name="celery", config_schema={}, requirements=multiple_process_executor_requirements())
    def celery(context: InitExecutorContext) -> Executor:
        step_workers.prepare(context.instance)
        return StepDelegatingExecutor(
            CeleryStepHandler(make_celery()),
            retries=RETRIES_OF_OPS,
            sleep_seconds=_POLL_SECONDS,
            check_step_health_interval_seconds=_CHECK_SECONDS,
        )

    return celery


class CeleryStepHandler(StepHandler):
    """Sends steps to workers of Celery, and follows them by the rows of :mod:`~.step_workers`."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._send_again: dict[step_workers.Attempt, tuple[float, float]] = {}  # when, and after which wait
        self._expired_since: dict[step_workers.Attempt, float] = {}

    @property
    def name(self) -> str:
        """Its name in the events of a run."""
        return "CeleryStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Send a step; if the broker is away, it is sent later."""
        yield from self._send(step_handler_context, _FIRST_PATIENCE_SECONDS)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether a step may still end; send it again if nobody has begun it for a while."""
        attempt = _attempt(step_handler_context)
        instance = step_handler_context.instance
        found = step_workers.find(instance, attempt)
        if found is None:
            list(self._send_again_if_due(step_handler_context, attempt))  # the events are recorded already
            return CheckStepHealthResult.healthy()
        reason = self._loss(found, attempt)
        if reason is None or _has_ended(step_handler_context, attempt):
            return CheckStepHealthResult.healthy()
        return CheckStepHealthResult.unhealthy(reason)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Make sure that nobody begins a step; if somebody has, wait until its lease has told it to end."""
        attempt = _attempt(step_handler_context)
        instance = step_handler_context.instance
        step_workers.call_off(instance, attempt)
        deadline = time.monotonic() + _CANCEL_SECONDS
        while (found := step_workers.find(instance, attempt)) is not None:
            if found.ended or self._loss(found, attempt) is not None:
                return
            if time.monotonic() > deadline:
                yield say_of_step(step_handler_context, f"{found} has not ended the step yet; the run ends without it")
                return
            time.sleep(_POLL_SECONDS)

    def _send(self, context: StepHandlerContext, patience: float) -> Iterator[DagsterEvent]:
        """Send a step, and note when to send it again if no worker has begun it by then."""
        attempt = _attempt(context)
        try:
            self._celery.send_task(EXECUTE_STEP, what_a_step_needs(context), **self._routing(context))
        except OperationalError as error:
            self._send_again[attempt] = (0, 0)  # with the next check
            yield say_of_step(context, f"The broker of Celery cannot be reached, trying again: {error}")
            return
        self._send_again[attempt] = (time.monotonic() + patience, patience)

    def _send_again_if_due(self, context: StepHandlerContext, attempt: step_workers.Attempt) -> Iterator[DagsterEvent]:
        """Send a step again if nobody has begun it in time: its message may be lost, or wait behind a long step."""
        due, waited = self._send_again[attempt]
        if time.monotonic() < due:
            return
        if waited:
            yield say_of_step(
                context,
                f"No worker has begun the step for {waited:.0f} s, so it is sent again. Look whether workers of the "
                f"queue {self._celery.conf.task_default_queue!r} are there and have room",
            )
        yield from self._send(context, min(waited * 2 or _FIRST_PATIENCE_SECONDS, _LONGEST_PATIENCE_SECONDS))

    def _routing(self, context: StepHandlerContext) -> dict[str, Any]:
        """Return queue and priority of a step, from the tags that dagster-celery has for them."""
        (tags,) = context.step_tags.values()
        priority = int(tags.get(DAGSTER_CELERY_STEP_PRIORITY_TAG, self._celery.conf.task_default_priority))
        routing: dict[str, Any] = {
            "priority": priority + int(context.dagster_run.tags.get(DAGSTER_CELERY_RUN_PRIORITY_TAG, 0))
        }
        if queue := tags.get(DAGSTER_CELERY_QUEUE_TAG):
            routing |= {"queue": queue, "routing_key": f"{queue}.{EXECUTE_STEP}"}
        return routing

    def _loss(self, found: step_workers.StepWorker, attempt: step_workers.Attempt) -> str | None:
        """Say why a worker is lost; None if it is not."""
        if found.worker is not None and found.worker.is_gone():
            return f"{found} that executed it is gone"
        if not found.expired or found.ended:
            self._expired_since.pop(attempt, None)
            if found.ended:
                return f"{found} left it without a report"
            return None
        # After an outage of the database all heartbeats look old until the first of them is renewed.
        since = self._expired_since.setdefault(attempt, time.monotonic())
        if time.monotonic() - since <= HEARTBEAT_SECONDS * 1.5:
            return None
        return f"{found} that executed it was last heard of at {found.heartbeat_ts:%Y-%m-%d %H:%M:%S} UTC"


def _attempt(context: StepHandlerContext) -> step_workers.Attempt:
    run_id, step_key, number, _, _ = what_a_step_needs(context)
    return step_workers.Attempt(run_id, step_key, number)


def _has_ended(context: StepHandlerContext, attempt: step_workers.Attempt) -> bool:
    """Tell whether the records have the end of an attempt, which the executor may not have read yet."""
    records = context.instance.get_records_for_run(attempt.run_id, of_type=set(_ENDED)).records
    ends = [
        event
        for record in records
        if (event := record.event_log_entry.dagster_event) is not None and event.step_key == attempt.step_key
    ]
    return len(ends) > attempt.number
