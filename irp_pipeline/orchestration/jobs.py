"""Jobs: what can be launched. The whole cycle, each stage alone, and opening and archiving a cycle.

https://docs.dagster.io/guides/build/jobs
"""

from dagster import graph

from irp_pipeline.orchestration.partitions import cycles
from irp_pipeline.orchestration.stages.extract import extract_stage
from irp_pipeline.orchestration.stages.monitor import monitor
from irp_pipeline.orchestration.stages.process import process
from irp_pipeline.orchestration.stages.report import report_stage
from irp_pipeline.orchestration.stages.setup import setup
from irp_pipeline.orchestration.stages.submit import submit
from irp_pipeline.orchestration.tracking import STEP_TAG

STAGES = (setup, extract_stage, process, submit, monitor, report_stage)
"""The graphs of the stages, in order."""

_OPS = {f"{stage.name}.{node.name}": node for stage in STAGES for node in stage.nodes_in_topological_order}
STEPS = {node.name: name for name, node in _OPS.items() if STEP_TAG in node.definition.tags}
"""The tracked steps by name, with their names within ``run_cycle``."""
_PARTS = [name for name, node in _OPS.items() if STEP_TAG not in node.definition.tags]
"""The other ops: parts of the step of their stage, which run with it."""


@graph(name="run_cycle")
def _all_stages() -> None:
    done = None
    for stage in STAGES:
        done = stage(done) if done is not None else stage()


run_cycle = _all_stages.to_job(
    partitions_def=cycles,
    description="Run all stages of a cycle. Steps that are done and unchanged are skipped.",
)

stage_jobs = [stage.to_job(partitions_def=cycles, description=stage.description) for stage in STAGES]


def selection(from_stage: str | None = None, only_step: str | None = None) -> list[str] | None:
    """Return a part of ``run_cycle`` as Dagster's op selection.

    Args:
        from_stage: name of the first stage to run, such as ``extract``.
        only_step: name of the one step to run, such as ``control_totals``.

    Returns:
        Names for ``op_selection``; None for all of it.

    Raises:
        ValueError: there is no such stage or step; the message lists the existing ones.
    """
    names = [stage.name for stage in STAGES]
    if only_step is not None:
        if only_step not in STEPS:
            raise ValueError(f"There is no step {only_step!r}. The steps are: {', '.join(STEPS)}")
        parts = (name for name in _PARTS if name.rpartition(".")[0] == STEPS[only_step].rpartition(".")[0])
        return [*parts, STEPS[only_step]]
    if from_stage is not None:
        if from_stage not in names:
            raise ValueError(f"There is no stage {from_stage!r}. The stages are: {', '.join(names)}")
        return names[names.index(from_stage) :]
    return None
