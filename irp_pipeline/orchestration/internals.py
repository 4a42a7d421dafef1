"""The private parts of Dagster that this package uses, each with what it is for. No other module names one.

Dagster promises nothing about them, so each release may move or change them. They were last tried with
:data:`TRIED_WITH`; ``pyproject.toml`` allows no later minor version, and ``make test-newest`` runs the suite with the
newest release of all, to see what a later cap would need.

Here belong names only. What is done with them stays where it is done.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

# `irp run` executes a run that it has made itself, event by event. The public execute_job makes a run of its own.
from dagster._core.execution.api import execute_run_iterator as execute_run_iterator

# The base of a run launcher's health check: RunLauncher is public, what its method takes and returns is not.
from dagster._core.launcher import CheckRunHealthResult as CheckRunHealthResult
from dagster._core.launcher import LaunchRunContext as LaunchRunContext
from dagster._core.launcher import WorkerStatus as WorkerStatus

# Without its origin and its partition set, the UI shows a run of `irp run` neither under its job nor its partition.
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin

# The local log manager and file storage, which take their folder from run config only; ours take it from IRP_HOME.
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager as LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage as LocalArtifactStorage

# The tags by which Dagster knows the partition of a run.
from dagster._core.storage.tags import PARTITION_NAME_TAG as PARTITION_NAME_TAG
from dagster._core.storage.tags import PARTITION_SET_TAG as PARTITION_SET_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

# What a class that dagster.yaml names is made with: the public from_config_value has it in its signature.
from dagster._serdes import ConfigurableClassData as ConfigurableClassData

# A run in this process is cancelled by Ctrl-C only with the handlers that Dagster's own commands set up.
from dagster._utils.interrupts import setup_interrupt_handlers as setup_interrupt_handlers

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from dagster._core.remote_origin import RemoteJobOrigin

TRIED_WITH: Final = "1.13.27"
"""The version of Dagster with which all of this was last seen to work."""

STEP_WORKER_MODULE: Final = "dagster._core.executor.child_process_executor"
"""Where the target of a step's process comes from, by which such a process is known."""

MODULES_OF_STEP_WORKER: Final = (
    "dagster._cli.job",
    "dagster._core.instance.factory",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery",
)
"""What a step's process would import at its start; the forkserver imports it once for all."""


def origin_of_job(module: str, repository: str, job: str) -> "RemoteJobOrigin":
    """Return the origin that a run has which was launched from the code location of a module."""
    location = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=module), module)
    return RemoteRepositoryOrigin(location, repository).get_job_origin(job)


def partition_set_of_job(job: str) -> str:
    """Return the name under which Dagster keeps the partitions of a job."""
    from dagster._core.remote_representation.external_data import partition_set_snap_name_for_job_name

    return partition_set_snap_name_for_job_name(job)


def serve_code(options: Sequence[str]) -> None:
    """Be a code server; ``dagster api grpc`` is an option of the command line only."""
    from dagster._cli.api import api_cli

    api_cli(["grpc", *options])


def run_daemon(options: Sequence[str]) -> None:
    """Be Dagster's daemon, in this process, which can be watched and ended as one."""
    from dagster._daemon.cli import cli

    cli(["run", *options])


def workspace(instance: "DagsterInstance", file: Path, version: str) -> AbstractContextManager[Any]:
    """Return what the webserver's application is made from: the code locations of a ``workspace.yaml``.

    Args:
        instance: the instance.
        file: the ``workspace.yaml``.
        version: of the webserver.
    """
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    return WorkspaceProcessContext(instance, WorkspaceFileTarget([str(file)]), version=version)
