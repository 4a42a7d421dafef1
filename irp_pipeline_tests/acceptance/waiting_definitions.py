"""A code location for the tests: a cycle of two steps, the second of which waits for a word."""

import os
import time
from typing import Any

from dagster import Definitions, graph

from irp_pipeline import settings
from irp_pipeline.helpers.database import execute_command
from irp_pipeline.orchestration.executors import executor
from irp_pipeline.orchestration.partitions import cycles
from irp_pipeline.orchestration.resources import DatabaseResource
from irp_pipeline.orchestration.tracking import CycleOfRun, StageSpec, step

STAGE = StageSpec(9, "Waiting")
SECONDS = 120


@step(stage=STAGE, number=1)
def leave_a_trace() -> None:
    """Write into the schema of the run, and name neither it nor the database."""
    execute_command("CREATE TABLE irp_trace AS SELECT current_schema() AS left_in")


@step(stage=STAGE, number=2)
def wait_for_word(cycle: CycleOfRun) -> dict[str, Any]:
    """Wait until there is a file ``go`` in the cycle's folder."""
    deadline = time.monotonic() + SECONDS
    while not (cycle.folder / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("Nobody said go")
        time.sleep(0.02)
    return {"process": os.getpid()}


@graph(name="waiting")
def waiting() -> None:
    """Leave a trace, then wait."""
    wait_for_word(leave_a_trace())


definitions = Definitions(
    jobs=[waiting.to_job(partitions_def=cycles)],
    resources={"database": DatabaseResource()},
    executor=executor(settings.executor()),
)
