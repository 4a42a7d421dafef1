"""Executors: where the steps of a run are executed, chosen by ``IRP_EXECUTOR``.

``in_process`` runs them one after the other in the process of the run, which suits steps that are cheap or mostly wait.
``multiprocess`` runs each step in its own process, forked from a server that has imported everything. ``celery`` hands
each step to a worker of Celery on any host; ``k8s`` runs each step in a pod of Kubernetes.

https://docs.dagster.io/guides/operate/run-executors
"""

import importlib.util
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

from dagster import ExecutorDefinition, in_process_executor, multiprocess_executor

from irp_pipeline import settings
from irp_pipeline.orchestration.internals import STEP_WORKER_MODULE
from irp_pipeline.orchestration.run_worker import announcing

PRELOADED = "irp_pipeline.orchestration.preload"

_watching = threading.Lock()


_PACKAGES = {"celery": "dagster_celery", "k8s": "dagster_k8s"}


def executor(kind: settings.Executor) -> ExecutorDefinition:
    """Return the executor of that kind, which says in a run's tags which process executes it.

    Except for Celery, its details can still be set in run config.

    Raises:
        SettingsError: its package is not installed, or a setting that it needs is missing.
    """
    return announcing(_executor(kind))


def _executor(kind: settings.Executor) -> ExecutorDefinition:
    if (package := _PACKAGES.get(kind)) and importlib.util.find_spec(package) is None:
        raise settings.SettingsError(
            f"IRP_EXECUTOR is {kind!r}, but the package {package.replace('_', '-')} is not installed. Install it with "
            f"pip install 'irp-pipeline[{kind}]', or unset IRP_EXECUTOR to execute steps in the process of the run"
        )
    if kind == "celery":
        from irp_pipeline.orchestration.celery_executor import celery_executor

        return celery_executor()
    if kind == "k8s":
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor
    if kind == "in_process":
        return in_process_executor
    return multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": [PRELOADED]}}}, name="multiprocess"
    )


def end_with_parent() -> None:
    """In the worker process of a single step: end, as on SIGTERM, when the run's process dies.

    A worker whose run is gone would uselessly continue to the end of its step, and hold the step's lease. In any other
    process this does nothing; nor does a second call.
    """
    parent = multiprocessing.parent_process()
    target = getattr(multiprocessing.current_process(), "_target", None)
    if parent is None or getattr(target, "__module__", None) != STEP_WORKER_MODULE:
        return
    if not _watching.acquire(blocking=False):
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="irp-end-with-parent", daemon=True).start()
