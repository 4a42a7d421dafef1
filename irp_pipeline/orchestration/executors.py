"""Executors: where the steps of a run are executed, chosen by ``IRP_EXECUTOR``.

``in_process`` runs them one after the other in the process of the run, which suits steps that are cheap or mostly wait.
``multiprocess`` runs each step in its own process, forked from a server that has imported everything.

https://docs.dagster.io/guides/operate/run-executors
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from typing import Literal

from dagster import ExecutorDefinition, in_process_executor, multiprocess_executor

from irp_pipeline.orchestration.internals import STEP_WORKER_MODULE

PRELOADED = "irp_pipeline.orchestration.preload"

_watching = threading.Lock()


def executor(kind: Literal["in_process", "multiprocess"]) -> ExecutorDefinition:
    """Return the executor of that kind; its details can still be set in run config."""
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
