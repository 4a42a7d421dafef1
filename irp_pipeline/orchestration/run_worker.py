"""Which process executes a run, and how it hears of a cancellation: by tags of the run.

Whoever launches a run does not know the process: a code server may be in another container, where the same number
belongs to another process. So the process itself writes a tag that names host, boot and container, and only a process
there can judge it. Dagster cancels a run through the code server that started it, which only its own machine reaches,
and which runs of ``irp run`` and ``dagster job execute`` do not have. So such a cancellation is a tag, too: the process
that executes the run looks for it, and interrupts itself.

Dagster copies the tags of a run to the run that executes it again. So the tag names the run too, and says nothing of
another one.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dagster import DagsterEvent, DagsterInstance, DagsterRun, Executor, ExecutorDefinition, InitExecutorContext

from irp_pipeline.orchestration.internals import (
    ExecutionPlan,
    PlanOrchestrationContext,
    RetryMode,
    StepDependencyConfig,
)
from irp_pipeline.process import HostProcess, this_process

RUN_WORKER_TAG = "irp/run_worker"
CANCEL_TAG = "irp/cancel"
"""Names the run that somebody asked to cancel: what was copied from another run does not count."""

_LOOK_SECONDS = 3.0


def announcing(definition: ExecutorDefinition) -> ExecutorDefinition:
    """Return the same executor, which first says in the tags of a run that this process executes it."""
    create = definition.executor_creation_fn
    if create is None:
        return definition

    def created(context: InitExecutorContext) -> Executor:
        return _Announcing(create(context))

    return ExecutorDefinition(
        definition.name,
        definition.config_schema,  # type: ignore[arg-type] # the schema of another definition is taken as it is
        requirements=definition.get_requirements,
        executor_creation_fn=created,
        description=definition.description,
    )


def worker_of_run(run: DagsterRun) -> HostProcess | None:
    """Return the process that executes a run, or None as long as it is not known."""
    return process_in_tag(run, RUN_WORKER_TAG)


def as_tag(run_id: str, process: HostProcess) -> str:
    """Return the process of a run as the value of a tag: ``<run>/<host>/<pid>/<start>``."""
    return f"{run_id}/{process.host}/{process.pid}/{process.started}"


def process_in_tag(run: DagsterRun, tag: str) -> HostProcess | None:
    """Return the process that a tag of a run names, or None: there is no such tag, or it was another run's."""
    run_id, _, process = run.tags.get(tag, "").partition("/")
    host, _, rest = process.partition("/")
    pid, _, started = rest.partition("/")
    return HostProcess(host, int(pid), started) if run_id == run.run_id and pid.isdecimal() else None


def announce(instance: DagsterInstance, run_id: str) -> None:
    """Say in the tags of a run that this process executes it."""
    instance.add_run_tags(run_id, {RUN_WORKER_TAG: as_tag(run_id, this_process())})


def ask_to_cancel(instance: DagsterInstance, run: DagsterRun) -> None:
    """Ask the process that executes a run, wherever it is, to cancel it."""
    instance.report_run_canceling(run)
    instance.add_run_tags(run.run_id, {CANCEL_TAG: run.run_id})


@contextmanager
def _hearing_of_cancellation(instance: DagsterInstance, run_id: str) -> Iterator[None]:
    """Interrupt this process if somebody asks to cancel a run during the block."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            with suppress(Exception):  # if the database is away, look again
                run = instance.get_run_by_id(run_id)
                if run is not None and run.tags.get(CANCEL_TAG) == run_id:
                    os.kill(os.getpid(), signal.SIGINT)
                    return

    thread = threading.Thread(target=look, name="irp-hear-of-cancellation", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Announcing(Executor):
    """An executor that says where it works, hears of a cancellation, and leaves the work to another."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> RetryMode:
        """As the other executor's."""
        return self._executor.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """As the other executor's."""
        return self._executor.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Announce this process, and execute the plan."""
        announce(plan_context.instance, plan_context.run_id)
        with _hearing_of_cancellation(plan_context.instance, plan_context.run_id):
            yield from self._executor.execute(plan_context, execution_plan)
