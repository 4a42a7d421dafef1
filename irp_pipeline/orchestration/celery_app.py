"""The Celery application of the workers that execute steps.

A worker is started by ``celery --app irp_pipeline.orchestration.celery_app worker``.

A message names a run and a step, and no code and no address: a worker takes the code from its own installation and the
addresses from its own environment. Each step has a process of its own, forked from one that has imported everything.

Here: the application with its task. Not here: the executor that sends steps
(:mod:`irp_pipeline.orchestration.celery_executor`).

https://docs.dagster.io/deployment/oss/deployment-options/celery
"""

import functools
import importlib
import logging
from typing import Any

from celery import Celery, Task
from dagster import DagsterExecutionInterruptedError
from dagster_celery.config import DEFAULT_CONFIG, dict_wrapper
from dagster_celery.make_app import make_app
from kombu.entity import Queue

from irp_pipeline import settings
from irp_pipeline.errors import IrpError
from irp_pipeline.orchestration import step_workers
from irp_pipeline.orchestration.instance import opened_instance
from irp_pipeline.orchestration.internals import capture_interrupts, execute_step_of_run

PRELOADED = "irp_pipeline.orchestration.preload"
"""The module that imports everything a step needs, once for all steps of a worker."""

EXECUTE_STEP = "irp_pipeline.execute_step"
_PRIORITIES = 10  # as the queues of dagster-celery
_log = logging.getLogger(__name__)


def make_celery() -> Celery:
    """Make the application for the broker and queue of the settings; connects to nothing.

    Raises:
        SettingsError: ``IRP_CELERY_BROKER`` is not set, or is no address of a broker.
    """
    queue = settings.celery_queue()
    celery = make_app(
        {
            "broker": settings.celery_broker(),
            # The events of a step come by Dagster's records, so nothing waits for what a task returns.
            "backend": "disabled://",
            "config_source": dict_wrapper(
                {
                    **DEFAULT_CONFIG,
                    "broker_connection_retry_on_startup": True,
                    "broker_connection_max_retries": None,
                    "task_ignore_result": True,
                    # A step that has begun is known by its row; a message that comes twice does nothing.
                    "task_acks_late": False,
                    "worker_max_tasks_per_child": 1,
                    "worker_send_task_events": False,
                    "worker_cancel_long_running_tasks_on_connection_loss": False,
                    "worker_hijack_root_logger": False,
                }
            ),
        }
    )
    celery.conf.task_queues = [Queue(queue, routing_key=f"{queue}.#", queue_arguments={"x-max-priority": _PRIORITIES})]
    celery.conf.task_default_queue = queue
    celery.conf.task_routes = {EXECUTE_STEP: {"queue": queue, "routing_key": f"{queue}.{EXECUTE_STEP}"}}
    celery.task(name=EXECUTE_STEP, bind=True)(_execute_step)
    return celery


def _execute_step(task: Task, run_id: str, step_key: str, attempt: int, retry_mode: str, known_state: Any) -> None:
    """Execute a step of a run, unless another worker has begun it, or the run has ended.

    Args:
        task: the task.
        run_id: the Dagster run.
        step_key: the step.
        attempt: 0, and one more for each retry.
        retry_mode: of the run, by name.
        known_state: what the run knows of earlier steps, as Dagster packs it.
    """
    of_step = step_workers.Attempt(run_id, step_key, attempt)
    try:
        with opened_instance() as instance:
            run = instance.get_run_by_id(run_id)
            if run is None:
                _log.error(
                    "Step %s belongs to the run %s, which is not among the records of this worker's Dagster. Each "
                    "installation needs a queue of its own (IRP_CELERY_QUEUE), or IRP_DATABASE_URL here names another "
                    "database than where the run was launched",
                    step_key,
                    run_id,
                )
                return
            if run.is_finished or not step_workers.begin(instance, of_step, task.request.hostname):
                _log.info("Step %s of run %s needs no worker any more", step_key, run_id)
                return
            with capture_interrupts(), step_workers.heartbeat(instance, of_step):
                execute_step_of_run(instance, run, step_key, retry_mode, known_state)
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        _log.warning("Step %s of run %s was interrupted", step_key, run_id)
    except IrpError as error:
        _log.error("Step %s of run %s: %s", step_key, run_id, error)


@functools.cache
def _app_of_worker() -> Celery:
    importlib.import_module(PRELOADED)
    return make_celery()


def __getattr__(name: str) -> Celery:
    """Make ``app`` when Celery's command asks for it."""
    if name == "app":
        return _app_of_worker()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
