"""The private parts of Dagster that this package uses, each with its purpose. No other module imports any.

Dagster makes no promise about them: each release may move or change them. They were last tested with
:data:`TRIED_WITH`; ``pyproject.toml`` allows no later minor version, and ``make test-newest`` runs the suite with the
newest release, to see what a later cap would need.

Only names belong here; the code that uses them is elsewhere.
"""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dagster import DagsterEvent

# The tag with the data version of a materialisation.
from dagster._core.definitions.data_version import DATA_VERSION_TAG as DATA_VERSION_TAG

# The newest evaluation of an asset check for one partition.
from dagster._core.event_api import PartitionKeyFilter as PartitionKeyFilter

# What an executor says of its own is an event too; the class of its data is not public.
from dagster._core.events import EngineEventData

# `irp run` makes a run and executes it event by event. The public execute_job makes its own run.
from dagster._core.execution.api import execute_run_iterator as execute_run_iterator

# The types in the signature of the public Executor.
from dagster._core.execution.context.system import PlanOrchestrationContext as PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan as ExecutionPlan
from dagster._core.execution.retries import RetryMode as RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig as StepDependencyConfig

# The executor that leaves each step to a worker elsewhere and reads its events from the records, and the interface to
# those workers. dagster-k8s is made of them; dagster-celery waits for a result that a lost worker never sends.
from dagster._core.executor.step_delegating import CheckStepHealthResult as CheckStepHealthResult
from dagster._core.executor.step_delegating import StepDelegatingExecutor as StepDelegatingExecutor
from dagster._core.executor.step_delegating import StepHandler as StepHandler
from dagster._core.executor.step_delegating import StepHandlerContext as StepHandlerContext

# The base of a run launcher's health check: RunLauncher is public, but not the types of its method.
from dagster._core.launcher import CheckRunHealthResult as CheckRunHealthResult
from dagster._core.launcher import LaunchRunContext as LaunchRunContext
from dagster._core.launcher import WorkerStatus as WorkerStatus

# Without origin and partition set, the UI shows a run of `irp run` neither under its job nor under its partition.
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin

# The base of a log manager that keeps what ops print in a store of files.
from dagster._core.storage.cloud_storage_compute_log_manager import (
    CloudStorageComputeLogManager as CloudStorageComputeLogManager,
)
from dagster._core.storage.compute_log_manager import ComputeIOType as ComputeIOType

# The local log manager and file storage, which take their folder only from config; ours take it from IRP_HOME.
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION as IO_TYPE_EXTENSION
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager as LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage as LocalArtifactStorage

# The tags with which Dagster marks the partition of a run,
# and of the code server that started it.
from dagster._core.storage.tags import GRPC_INFO_TAG as GRPC_INFO_TAG
from dagster._core.storage.tags import PARTITION_NAME_TAG as PARTITION_NAME_TAG
from dagster._core.storage.tags import PARTITION_SET_TAG as PARTITION_SET_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

# The id of a run that is not made yet: a tag of the run says which process executes that very run.
from dagster._core.utils import make_new_run_id as make_new_run_id

# The argument for classes that dagster.yaml names: it is in the signature of the public from_config_value.
from dagster._serdes import ConfigurableClass as ConfigurableClass
from dagster._serdes import ConfigurableClassData as ConfigurableClassData

# What a run knows of its earlier steps goes to a worker as JSON.
from dagster._serdes import pack_value, unpack_value

# An interrupt must wait outside of the body of an op, as in Dagster's own processes for steps.
from dagster._utils.interrupts import capture_interrupts as capture_interrupts

# Ctrl-C cancels a run in this process only with the handlers that Dagster's own commands set up.
from dagster._utils.interrupts import setup_interrupt_handlers as setup_interrupt_handlers

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun
    from dagster._core.remote_origin import RemoteJobOrigin

TRIED_WITH: Final = "1.13.27"
"""The version of Dagster with which all of this was last tested."""

OF_ITS_OWN: Final = re.compile(
    r"Dependencies for step \S+ (?:failed|were not executed): .* Not executing\."
    r"|Emitting implicit Nothing for output .*"
)
"""What Dagster logs for each step that comes after a failed one, and for each op that shares out nothing."""

STEP_WORKER_MODULE: Final = "dagster._core.executor.child_process_executor"
"""The module of the target of a step's process, which identifies such a process."""

MODULES_OF_STEP_WORKER: Final = (
    "dagster._cli.job",
    "dagster._core.instance.factory",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery",
)
"""The modules that a step's process would import at its start; the forkserver imports them once for all steps."""


def origin_of_job(module: str, repository: str, job: str) -> "RemoteJobOrigin":
    """Return the origin of a run that was launched from the code location of a module."""
    location = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=module), module)
    return RemoteRepositoryOrigin(location, repository).get_job_origin(job)


def partition_set_of_job(job: str) -> str:
    """Return the name under which Dagster keeps the partitions of a job."""
    from dagster._core.remote_representation.external_data import partition_set_snap_name_for_job_name

    return partition_set_snap_name_for_job_name(job)


RETRIES_OF_OPS: Final = RetryMode.ENABLED
"""The mode of an executor in which the retry policies of ops count."""


def what_a_step_needs(context: StepHandlerContext) -> tuple[str, str, int, str, Any]:
    """Return what a worker elsewhere needs to execute a step, as JSON.

    Args:
        context: what the executor says of the step.

    Returns:
        The run's id, the step's key, how often it was retried, how the run retries, and what it knows of earlier steps.
    """
    given = context.execute_step_args
    (step_key,) = given.step_keys_to_execute or ()
    retry_mode, known = given.retry_mode, given.known_state
    if retry_mode is None or known is None:
        raise ValueError(f"The executor says nothing of the state of the run for the step {step_key}")
    attempt = known.get_retry_state().get_attempt_count(step_key)
    return given.run_id, step_key, attempt, retry_mode.value, pack_value(known)


def say_of_step(context: StepHandlerContext, message: str) -> DagsterEvent:
    """Record a message of the executor about a step, and return its event."""
    (step_key,) = context.execute_step_args.step_keys_to_execute or ()
    return DagsterEvent.engine_event(context.get_step_context(step_key), message, EngineEventData())


def execute_step_of_run(
    instance: "DagsterInstance", run: "DagsterRun", step_key: str, retry_mode: str, known_state: Any
) -> None:
    """Execute one step of a recorded run in this process, as ``dagster api execute_step`` does.

    Args:
        instance: where the run is recorded.
        run: the run.
        step_key: the step.
        retry_mode: from :func:`what_a_step_needs`.
        known_state: from :func:`what_a_step_needs`.
    """
    from dagster._cli.api import _execute_step_command_body
    from dagster._core.execution.plan.state import KnownExecutionState
    from dagster._grpc.types import ExecuteStepArgs

    if run.job_code_origin is None:
        raise ValueError(f"The run {run.run_id} does not say where its code is")
    arguments = ExecuteStepArgs(
        run.job_code_origin,
        run.run_id,
        [step_key],
        retry_mode=RetryMode(retry_mode),
        known_state=unpack_value(known_state, as_type=KnownExecutionState),
    )
    for _ in _execute_step_command_body(arguments, instance, run):
        pass


def serve_code(options: Sequence[str]) -> None:
    """Run a code server in this process; Dagster offers ``dagster api grpc`` only as a command."""
    from dagster._cli.api import api_cli

    api_cli(["grpc", *options])


def run_daemon(options: Sequence[str]) -> None:
    """Run Dagster's daemon in this process, so that there is only one process to watch and end."""
    from dagster._daemon.cli import cli

    cli(["run", *options])


def workspace(instance: "DagsterInstance", file: Path, version: str) -> AbstractContextManager[Any]:
    """Return the workspace for the webserver's application: the code locations of a ``workspace.yaml``.

    Args:
        instance: the instance.
        file: the ``workspace.yaml``.
        version: of the webserver.
    """
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    return WorkspaceProcessContext(instance, WorkspaceFileTarget([str(file)]), version=version)
