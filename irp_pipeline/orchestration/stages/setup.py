"""Setup: the cycle's folder, its configuration, and the batches of jobs that the configuration asks for."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster import Config, OpExecutionContext, graph
from pydantic import Field

from irp_pipeline import settings, store
from irp_pipeline.cycle_files import workbook_of
from irp_pipeline.files import make_folder
from irp_pipeline.helpers.batch import Batch, ensure_batch, find_current_batch
from irp_pipeline.helpers.batch_content import wanted_content, wanted_jobs
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.configuration import (
    activate_configuration,
    check_configuration,
    find_active_configuration,
    require_active_configuration,
)
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.ending import end_batches
from irp_pipeline.helpers.step import TrackedRun
from irp_pipeline.helpers.wanted import BATCH_TYPES, chain_types, wanted_types
from irp_pipeline.orchestration.tracking import CycleOfRun, StageSpec, step

STAGE = StageSpec(1, "Setup")


class ConfigurationConfig(Config):
    """Which workbook configures the cycle."""

    workbook: str | None = Field(
        default=None, description="Path or address of the workbook. Empty: configuration.xlsx in the cycle's folder."
    )


def chosen_workbook(cycle: CycleOfRun, config: ConfigurationConfig) -> Path:
    """Return the path of the workbook for a run on this machine, whether or not the file exists.

    Raises:
        StoreError: the workbook is elsewhere, at an address that cannot be used or reached.
    """
    return store.bring(store.path_of_name(config.workbook) if config.workbook else workbook_of(cycle.folder))


def analysis_batch(cycle: CycleOfRun) -> Batch:
    """Return the batch that has the jobs of the cycle's workbook.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
        BatchError: no batch has been made for the workbook as it is now.
    """
    require_active_configuration(cycle.id)
    batch = find_current_batch(cycle.id)
    if batch is None:
        raise BatchError("No batch has been made for the analyses of the workbook: run create_batches first")
    return batch


def _workbook_hash(cycle: CycleOfRun, config: ConfigurationConfig) -> dict[str, str | None]:
    from irp_pipeline.workbook import workbook_hash

    path = chosen_workbook(cycle, config)
    return {"workbook": workbook_hash(path) if path.is_file() else None}


def _configuration(cycle: CycleOfRun) -> dict[str, Any]:
    """The active configuration of the cycle."""
    configuration = find_active_configuration(cycle.id)
    return {"configuration": configuration.data if configuration else None}


def _batch(cycle: CycleOfRun) -> dict[str, str | None]:
    """The jobs that the workbook asks for, if there is a batch of them; of other types only if it asks for any."""
    configuration = find_active_configuration(cycle.id)
    others = [] if configuration is None else wanted_types(configuration.data)
    return {"batch": wanted_content(cycle.id)} | {f"batch of {name}": wanted_content(cycle.id, name) for name in others}


@step(stage=STAGE, number=1)
def initialize_environment(cycle: CycleOfRun) -> dict[str, Any]:
    """Make the cycle's folder and record the software with which the cycle began."""
    settings.make_irp_home()
    make_folder(cycle.folder)
    return {
        "folder": str(cycle.folder),
        "schema": cycle.schema,
        "python": platform.python_version(),
        "irp-pipeline": version("irp-pipeline"),
        "dagster": version("dagster"),
    }


@step(stage=STAGE, number=2, inputs=_workbook_hash, records=_configuration)
def validate_configuration(
    cycle: CycleOfRun, run: TrackedRun, context: OpExecutionContext, config: ConfigurationConfig
) -> dict[str, Any]:
    """Check the workbook and make it the configuration of the cycle."""
    from irp_pipeline.workbook import Workbook, workbook_notes

    path = chosen_workbook(cycle, config)
    workbook = check_configuration(cycle.id, path)
    notes = workbook_notes(Workbook.from_json(workbook.data), workbook.path.parent, settings.models_folder())
    for note in notes:
        context.log.warning(str(note))

    def activate() -> None:
        run.output["configuration_id"] = activate_configuration(cycle.id, workbook)

    run.when_complete(activate)
    return {
        "workbook": str(path),
        "portfolios": len(workbook.data["portfolios"]),
        "analyses": len(workbook.data["analyses"]),
        "groupings": len(workbook.data["groupings"]),
    }


@step(
    stage=STAGE,
    number=3,
    workbook=("metadata.currency", "analyses"),
    records=_batch,
)
def create_batches(cycle: CycleOfRun, run: TrackedRun, step_id: int, context: OpExecutionContext) -> None:
    """Make sure that there are batches with the jobs that the workbook asks for; they are not submitted yet.

    There is one of the analyses, and one of each type that comes after another one and has jobs for this workbook. Jobs
    that are still at work for an earlier workbook are ended.
    """
    configuration = require_active_configuration(cycle.id)
    for fault in BATCH_TYPES.faults():
        context.log.warning(f"{fault.message}. The cycle has no batch of it")
    for declared in chain_types():
        if find_current_batch(cycle.id, declared.name) is None:
            for earlier in end_batches(cycle.id, declared.name):
                context.log.info(f"The jobs of batch {earlier} are ended: the workbook asks for other ones now")
    names = [BatchType.ANALYSIS, *wanted_types(configuration.data)]

    def make() -> None:
        for name in names:
            batch_id = ensure_batch(name, configuration.id, step_id)
            run.output |= {f"{name} batch": batch_id, f"{name} jobs": len(wanted_jobs(batch_id))}

    run.when_complete(make)


@graph
def setup(start: Any) -> Any:
    """The cycle's folder, its configuration and its batches."""
    return create_batches(validate_configuration(initialize_environment(start)))
