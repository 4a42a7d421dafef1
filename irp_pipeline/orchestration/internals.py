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

# `irp run` makes a run and executes it event by event. The public execute_job makes its own run.
from dagster._core.execution.api import execute_run_iterator as execute_run_iterator

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

# The tags with which Dagster marks the partition of a run.
from dagster._core.storage.tags import PARTITION_NAME_TAG as PARTITION_NAME_TAG
from dagster._core.storage.tags import PARTITION_SET_TAG as PARTITION_SET_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

# The argument for classes that dagster.yaml names: it is in the signature of the public from_config_value.
from dagster._serdes import ConfigurableClass as ConfigurableClass
from dagster._serdes import ConfigurableClassData as ConfigurableClassData

# Ctrl-C cancels a run in this process only with the handlers that Dagster's own commands set up.
from dagster._utils.interrupts import setup_interrupt_handlers as setup_interrupt_handlers

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from dagster._core.remote_origin import RemoteJobOrigin

TRIED_WITH: Final = "1.13.27"
"""The version of Dagster with which all of this was last tested."""

NOT_EXECUTED: Final = re.compile(r"Dependencies for step \S+ (?:failed|were not executed): .* Not executing\.")
"""What Dagster logs for each step that comes after a failed one."""

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
