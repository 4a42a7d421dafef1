"""Notebooks as steps: ops that execute them, and what of them the UI shows.

:func:`notebook_step` makes an op of a notebook, for the jobs of a code location of one's own. The notebooks that the
workbook of a cycle names run at the end of a stage: one op shares them out, and mapped ops execute them, each notebook
as a tracked step of its own (:func:`ops_of_stage`).

The work itself is in :mod:`irp_pipeline.helpers.notebooks`, which knows nothing of Dagster.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dagster import (
    Config,
    DynamicOut,
    DynamicOutput,
    In,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    RetryPolicy,
    op,
)
from pydantic import Field

from irp_pipeline.columns import quoted
from irp_pipeline.helpers.notebooks.by_hand import DECLARED
from irp_pipeline.helpers.notebooks.errors import NotebookStepError
from irp_pipeline.helpers.notebooks.of_workbook import STAGES, chains, notebooks_of_cycle
from irp_pipeline.helpers.notebooks.parameters import checked_parameters
from irp_pipeline.helpers.notebooks.step import NotebookStep
from irp_pipeline.helpers.step import TrackedRun, track_step
from irp_pipeline.orchestration.resources import EXECUTED_NOTEBOOK, DatabaseResource
from irp_pipeline.orchestration.run_watch import unwanted
from irp_pipeline.orchestration.tracking import (
    CycleOfRun,
    StageSpec,
    about_run,
    cycle_of_run,
    record_launch,
    started_by,
    step,
)

NOTEBOOKS_TAG: Final = "irp/notebooks"
"""The tag of the ops that execute the notebooks of the workbook: the key of their stage."""

_IN_MAPPING_KEY: Final = re.compile(r"\W", re.ASCII)


def notebook_step(
    path: str | Path,
    *,
    stage: StageSpec,
    number: int,
    name: str | None = None,
    title: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    workbook: Sequence[str] | None = None,
    outputs_of: Sequence[str] = (),
    after: Sequence[str] = (),
    timeout_minutes: float | None = 60,
    version: int = 1,
    retry_policy: RetryPolicy | None = None,
) -> OpDefinition:
    """Make an op of a notebook: a tracked step like those of :func:`irp_pipeline.orchestration.tracking.step`.

    The step is skipped if it has completed with the same code cells, parameters, parts of the workbook and outputs of
    other steps. The executed notebook is among the files of the cycle, and shown with the op.

    Args:
        path: the notebook. A relative path is relative to the working folder of the code location.
        stage: the stage it belongs to.
        number: number of the step within the stage, from 1.
        name: the name of the op; default: that of the notebook.
        title: its name for people; default: its name as words.
        parameters: variables that it gets besides ``cycle_name``, ``schema`` and ``configuration``.
        workbook: the parts of the workbook that its result depends on, such as ``portfolios``; None: all of it.
        outputs_of: other notebooks made by this function before, by the names of their ops. It gets their output data
            in the variable ``outputs_of``.
        after: keys of other steps whose outputs its result depends on, such as ``monitor.group_results``.
        timeout_minutes: how long it may take; None: as long as it takes.
        version: raise it to have cycles run the step again.
        retry_policy: Dagster's; each retry is a new step run.

    Returns:
        The op. It takes and gives nothing but its place in the order of a graph.

    Raises:
        NotebookStepError: a parameter cannot be given to a notebook, or ``outputs_of`` names a notebook that was not
            made before.
    """
    notebook = Path(path).absolute()
    op_name = name or _IN_MAPPING_KEY.sub("_", notebook.stem)
    key = f"{stage.key}.{op_name}"
    by_op = {key.partition(".")[2]: key for key in DECLARED}
    if missing := [other for other in outputs_of if other not in by_op]:
        raise NotebookStepError(f"The step {key} gets the output of {missing[0]!r}, which is not a notebook step yet")
    declared = NotebookStep(
        stage_number=stage.number,
        stage_name=stage.name,
        number=number,
        step_key=key,
        name=title or op_name.replace("_", " ").capitalize(),
        path=notebook,
        named=notebook.name,
        parameters=checked_parameters(parameters or {}),
        workbook=workbook,
        outputs={other: by_op[other] for other in outputs_of},
        after=after,
        timeout_minutes=timeout_minutes,
        version=version,
    )
    DECLARED[key] = declared

    def execute(cycle: CycleOfRun, run: TrackedRun) -> None:
        declared.work(run, cycle.id, cycle.name)

    execute.__name__ = op_name
    execute.__doc__ = f"Execute the notebook {notebook.name}."
    return step(
        stage=stage,
        number=number,
        version=version,
        name=declared.name,
        notebook_path=declared.named,
        inputs=lambda cycle, _: declared.inputs(cycle.id),
        shown=lambda cycle: shown_notebook(cycle, declared),
        retry_policy=retry_policy,
    )(execute)


class NotebooksConfig(Config):
    """Which of the notebooks of the workbook run."""

    only: list[str] | None = Field(
        default=None, description="The names of the notebooks to run. Empty: all of the stage."
    )


def ops_of_stage(stage: StageSpec) -> tuple[OpDefinition, OpDefinition]:
    """Return the ops that execute the notebooks that a workbook names for a stage.

    Returns:
        The op that shares them out, and the op to map over what it shares out.
    """
    key = stage.key
    if (STAGES[key].number, STAGES[key].name) != (stage.number, stage.name):
        raise ValueError(f"The stage {stage} is not the one at whose end notebooks run")

    @op(
        name=f"share_out_{key}_notebooks",
        ins={"start": In(Nothing)},
        out=DynamicOut(Nothing),
        tags={NOTEBOOKS_TAG: key},
    )
    def share_out(
        context: OpExecutionContext, config: NotebooksConfig, database: DatabaseResource
    ) -> Iterator[DynamicOutput[None]]:
        """Share out the notebooks that the workbook names for this stage; those that wait for each other together."""
        with cycle_of_run(context, database) as cycle:
            found = _chains(cycle, key)
        for name, chain in found.items():
            wanted = [each for each in chain if config.only is None or _name_of(each) in config.only]
            if wanted:
                yield DynamicOutput(None, mapping_key=name)

    @op(name=f"run_{key}_notebooks", ins={"start": In(Nothing)}, out=Out(Nothing), tags={NOTEBOOKS_TAG: key})
    def run_notebooks(context: OpExecutionContext, config: NotebooksConfig, database: DatabaseResource) -> None:
        """Execute a notebook, and those that get its output data, each as a step of its own."""
        with cycle_of_run(context, database) as cycle:
            record_launch(context, database, cycle.name)
            chain = _chains(cycle, key)[context.get_mapping_key() or ""]
            wanted = [each for each in chain if config.only is None or _name_of(each) in config.only]
            _run_chain(wanted, cycle, context, database)

    return share_out, run_notebooks


def shown_notebook(cycle: CycleOfRun, notebook: NotebookStep) -> dict[str, MetadataValue[Any]]:
    """Return the metadata with which the UI shows an executed notebook, as those of dagstermill."""
    return {EXECUTED_NOTEBOOK: MetadataValue.notebook(str(cycle.folder / notebook.artefact_key))}


def _name_of(notebook: NotebookStep) -> str:
    return notebook.step_key.partition(":")[2]


def _chains(cycle: CycleOfRun, stage: str) -> dict[str, list[NotebookStep]]:
    """Return the chains of notebooks of a stage by their mapping keys."""
    found: dict[str, list[NotebookStep]] = {}
    for chain in chains(notebooks_of_cycle(cycle.id, stage)):
        name = key = _IN_MAPPING_KEY.sub("_", _name_of(chain[0]))
        number = 2
        while key in found:
            key, number = f"{name}_{number}", number + 1
        found[key] = chain
    return found


def _run_chain(
    chain: Sequence[NotebookStep], cycle: CycleOfRun, context: OpExecutionContext, database: DatabaseResource
) -> None:
    """Execute notebooks one after the other, without those that get the output data of one that failed."""
    failed: dict[str, NotebookStepError] = {}
    for notebook in chain:
        if any(key in failed for key in notebook.outputs.values()):
            message = f"Notebook {notebook.named} was not executed, since one whose output it gets failed"
            failed[notebook.step_key] = NotebookStepError(message)
            context.log.error(message)
            continue
        prefix = "" if len(chain) == 1 else f"{_name_of(notebook)}: "
        try:
            run = _run_one(notebook, cycle, context, database)
        except NotebookStepError as error:
            failed[notebook.step_key] = error
            context.log.error(str(error))
            continue
        about = about_run(run) | shown_notebook(cycle, notebook)
        context.add_output_metadata({f"{prefix}{name}": value for name, value in about.items()})
    if failed:
        first, *others = failed.values()
        if not others:
            raise first
        also = ", ".join(quoted(key.partition(":")[2]) for key in [*failed][1:])
        raise NotebookStepError(f"{first}. Also without a result: {also}", first.executed) from first


def _run_one(
    notebook: NotebookStep, cycle: CycleOfRun, context: OpExecutionContext, database: DatabaseResource
) -> TrackedRun:
    with track_step(
        notebook.step_id(cycle.id),
        started_by=started_by(context, database),
        inputs=notebook.inputs(cycle.id),
        rerun=database.rerun_completed,
        dagster_run_id=context.run_id,
        unwanted=unwanted(context.instance, context.run_id),
    ) as run:
        if not run.skipped:
            notebook.work(run, cycle.id, cycle.name)
    return run
