"""A job of one op for Celery: the op leaves a line in a file, and waits until there is another file."""

import os
import time
from pathlib import Path

from dagster import JobDefinition, graph, op

from irp_pipeline.orchestration.celery_executor import celery_executor

FOLDER = "FOLDER_OF_CELERY_JOB"
SECONDS = 120


@op
def wait_for_word() -> None:
    folder = Path(os.environ[FOLDER])
    with (folder / "begun").open("a") as begun:
        begun.write(f"{os.getpid()}\n")
    deadline = time.monotonic() + SECONDS
    while not (folder / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("Nobody said go")
        time.sleep(0.02)


@graph
def one_step() -> None:
    wait_for_word()


def one_step_job() -> JobDefinition:
    return one_step.to_job(executor_def=celery_executor())
