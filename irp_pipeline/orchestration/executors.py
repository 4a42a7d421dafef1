"""Executors: where the steps of a run are carried out, chosen by ``IRP_EXECUTOR``.

``in_process`` runs them one after the other in the run's own process, which suits steps that are cheap or wait for
others. ``multiprocess`` gives each step a process of its own, forked from a server that has everything imported.

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
    """In the worker process of a single step: be told to end, as by SIGTERM, when the run's process dies.

    A worker whose run is gone would go on to the end of its step for nobody, and hold the step's lease. In any other
    process this does nothing, and a second call does nothing.
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
