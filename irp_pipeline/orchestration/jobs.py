"""Jobs: what can be launched. The whole cycle, each stage alone, and opening and archiving a cycle.

https://docs.dagster.io/guides/build/jobs
"""

from typing import Any

from dagster import graph

from irp_pipeline.helpers.notebooks.of_workbook import STAGES as OF_NOTEBOOKS
from irp_pipeline.orchestration.notebooks import NOTEBOOKS_TAG
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
_NOTEBOOKS = {
    stage: [name for name, node in _OPS.items() if node.definition.tags.get(NOTEBOOKS_TAG) == stage]
    for stage in OF_NOTEBOOKS
}
"""The ops that execute the notebooks of the workbook, by the key of their stage."""
_PARTS = [name for name, node in _OPS.items() if not {STEP_TAG, NOTEBOOKS_TAG} & node.definition.tags.keys()]
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


def only_notebook(stage: str, name: str) -> tuple[list[str], dict[str, Any]]:
    """Return what runs one notebook of the workbook, without those whose output data it gets.

    Args:
        stage: the key of its stage.
        name: its name.

    Returns:
        Names for ``op_selection``, and the config of ops.
    """
    config = {op.rpartition(".")[2]: {"config": {"only": [name]}} for op in _NOTEBOOKS[stage]}
    return _NOTEBOOKS[stage], {stage: {"ops": config}}


def executes_notebooks(step_key: str) -> bool:
    """Tell whether a step of a Dagster run executes notebooks of the workbook."""
    return any(step_key.startswith(f"{ops[-1]}[") for ops in _NOTEBOOKS.values())


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
