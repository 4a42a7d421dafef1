"""Opening and archiving a cycle, as jobs for users of the Dagster UI.

These jobs update Dagster's partitions at once for the default schema; a sensor follows all other changes of cycles.
"""

from dagster import Config, OpExecutionContext, graph, op
from pydantic import Field

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers import cycle
from irp_pipeline.helpers.db_context import get_schema_from_env
from irp_pipeline.orchestration.partitions import CYCLES
from irp_pipeline.orchestration.resources import DatabaseResource, failure_of
from irp_pipeline.orchestration.tracking import record_launch


class CycleConfig(Config):
    """Which cycle to open."""

    name: str = Field(description="Name of the cycle, for example Q1-2024.")


class ArchivedCycleConfig(CycleConfig):
    """Which cycle to archive, and how."""

    force: bool = Field(
        default=False,
        description="First end the steps and jobs that are at work for it, and wait until they have ended.",
    )


@op(name="open_cycle")
def open_cycle_op(context: OpExecutionContext, config: CycleConfig, database: DatabaseResource) -> None:
    """Open a cycle: create it, and archive the one that was active before, if it is not at work.

    The metadata name the archived cycle. To reopen it: irp cycle reopen.
    """
    try:
        with database.entered() as schema:
            record_launch(context, database, config.name)
            opened = cycle.replace_active_cycle(config.name)
    except IrpError as error:
        raise failure_of(error) from error
    if schema == get_schema_from_env():
        context.instance.add_dynamic_partitions(CYCLES, [config.name])
    if opened.archived:
        context.log.info(f"Archived the cycle {opened.archived}, which was active before.")
    context.add_output_metadata(
        {
            "cycle": config.name,
            "cycle_id": opened.cycle_id,
            "schema": schema,
            "created": opened.created,
            "archived": opened.archived or "none",
        }
    )


@op(name="archive_cycle")
def archive_cycle_op(context: OpExecutionContext, config: ArchivedCycleConfig, database: DatabaseResource) -> None:
    """Archive a cycle: it takes no more work, and its records stay. The op refuses while steps or jobs are at work."""
    try:
        with database.entered() as schema:
            record_launch(context, database, config.name)
            found = cycle.require_open_cycle(config.name)
            if not config.force:
                cycle.refuse_while_at_work(found)
            cycle.archive_cycle(found.id, force=config.force)
    except IrpError as error:
        raise failure_of(error) from error
    context.add_output_metadata({"cycle": config.name, "schema": schema})


# A graph must not have the same name as one of its ops.
@graph(name="opening")
def open_cycle_graph() -> None:
    """Open a cycle: create it, and archive the one that was active before, if it is not at work."""
    open_cycle_op()


@graph(name="archiving")
def archive_cycle_graph() -> None:
    """Archive a cycle: it takes no more work, and its records stay. The op refuses while steps or jobs are at work."""
    archive_cycle_op()


open_cycle = open_cycle_graph.to_job("open_cycle")
archive_cycle = archive_cycle_graph.to_job("archive_cycle")
