"""Setup: the cycle's folder, its configuration, and the batches of jobs that the configuration asks for."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster import Config, graph
from pydantic import Field

from irp_pipeline import settings
from irp_pipeline.files import make_folder
from irp_pipeline.helpers.batch import BatchError, create_batch, current_batch, get_batch_jobs
from irp_pipeline.helpers.configuration import active_workbook, load_configuration, require_active_configuration
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.orchestration.tracking import Cycle, Stage, step

STAGE = Stage(1, "Setup")


class ConfigurationConfig(Config):
    """Which workbook configures the cycle."""

    workbook: str | None = Field(
        default=None, description="Path of the workbook. Empty: configuration.xlsx in the cycle's folder."
    )


def workbook_of(cycle: Cycle, config: ConfigurationConfig) -> Path:
    """Return the path of the workbook that a run means, whether or not it is there."""
    return Path(config.workbook).expanduser() if config.workbook else cycle.folder / "configuration.xlsx"


def analysis_batch(cycle: Cycle) -> dict[str, Any]:
    """Return the batch of the cycle's configuration that this stage made; the columns of ``read_batch``.

    Raises:
        ConfigurationError: no workbook has been validated for the cycle.
        BatchError: no batch has been made yet.
    """
    require_active_configuration(cycle.id)
    batch = current_batch(cycle.id)
    if batch is None:
        raise BatchError("No batch of jobs has been made for this cycle: run create_batches first")
    return batch


def _workbook_hash(cycle: Cycle, config: ConfigurationConfig) -> str | None:
    from irp_pipeline.helpers.workbook import workbook_hash

    path = workbook_of(cycle, config)
    return workbook_hash(path) if path.is_file() else None


@step(stage=STAGE, number=1, configured=False)
def initialize_environment(cycle: Cycle) -> dict[str, Any]:
    """Make the cycle's folder and record which software the cycle began with."""
    settings.make_irp_home()
    make_folder(cycle.folder)
    return {
        "folder": str(cycle.folder),
        "schema": cycle.schema,
        "python": platform.python_version(),
        "irp-pipeline": version("irp-pipeline"),
        "dagster": version("dagster"),
    }


@step(stage=STAGE, number=2, configured=False, inputs=_workbook_hash)
def validate_configuration(cycle: Cycle, config: ConfigurationConfig) -> dict[str, Any]:
    """Check the workbook and make it the configuration of the cycle."""
    path = workbook_of(cycle, config)
    configuration_id = load_configuration(cycle.id, path)
    workbook, _ = active_workbook(cycle.id)
    return {
        "configuration_id": configuration_id,
        "workbook": str(path),
        "portfolios": len(workbook.portfolios),
        "analyses": len(workbook.analyses),
        "groupings": len(workbook.groupings),
    }


@step(stage=STAGE, number=3)
def create_batches(cycle: Cycle, step_id: int) -> dict[str, Any]:
    """Make the batches of jobs that the configuration asks for; nothing is submitted yet."""
    configuration = require_active_configuration(cycle.id)
    batch_id = create_batch(BatchType.ANALYSIS, configuration["id"], step_id)
    return {"analysis batch": batch_id, "analysis jobs": len(get_batch_jobs(batch_id))}


@graph
def setup(start: Any) -> Any:
    """The cycle's folder, its configuration and its batches."""
    return create_batches(validate_configuration(initialize_environment(start)))
