"""``irp cycle``: making, listing, archiving, reopening and deleting cycles."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.adoption import print_kept
from irp_pipeline.cli.failures import CommandError
from irp_pipeline.cli.options import (
    AsJson,
    CycleName,
    DbSchema,
    Yes,
    cycle_not_found,
    find_cycle,
    make_sure,
    working_in,
)
from irp_pipeline.cycle_files import workbook_of
from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import CycleStatus, StepStatus

if TYPE_CHECKING:
    from irp_pipeline.helpers.cycle import StepProgress
    from irp_pipeline.helpers.stage import Stage

Force = Annotated[
    bool, typer.Option("--force", help="First end the steps and jobs that are at work, and wait until they have ended.")
]

app = typer.Typer(no_args_is_help=True, help="Make, list, archive, reopen and delete cycles.")


@dataclass(frozen=True, kw_only=True, slots=True)
class _StageSummary:
    """A stage, and the number of its steps by status."""

    stage_num: int
    stage_name: str
    created_ts: datetime
    steps: int
    completed: int
    failed: int
    at_work: int
    runs: int


@app.command(epilog="Example: irp cycle create Q1-2024")
def create(cycle: CycleName, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Create a cycle.

    It is ACTIVE; other ACTIVE cycles stay ACTIVE.
    """
    from irp_pipeline import settings, store
    from irp_pipeline.helpers.cycle import create_cycle

    with working_in(db_schema) as schema:
        create_cycle(cycle)
        created = find_cycle(cycle, schema)
    if as_json:
        output.print_json({"schema": schema, "cycle": created})
    else:
        workbook = workbook_of(settings.cycle_dir(schema, cycle))
        output.say(f"Created the cycle {cycle} in schema {schema!r}.")
        if (address := store.name_of_path(workbook)) is not None:
            output.print_note(f"Its workbook goes here: {address}. To write an empty one: irp config template FILE")
            return
        output.print_note(f"Its workbook goes here: {workbook}. To write an empty one: irp config template {workbook}")


@app.command("list", epilog="Example: irp cycle list --db-schema test_cycle")
def list_cycles(db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """List all cycles, the newest first."""
    from irp_pipeline.helpers.cycle import overview_of_cycles

    with working_in(db_schema) as schema:
        cycles = overview_of_cycles()
    if as_json:
        output.print_json({"schema": schema, "cycles": cycles})
    elif cycles:
        headers = (
            output.with_zone("Created", (cycle.created_ts for cycle in cycles)),
            output.with_zone("Archived", (cycle.archived_ts for cycle in cycles)),
        )
        output.print_table(
            ("Cycle", "Status", "Stages", "Steps", "At work", *headers),
            (
                (
                    cycle.cycle_name,
                    output.status_text(cycle.status),
                    cycle.stages,
                    cycle.steps,
                    cycle.active_step_runs or None,
                    cycle.created_ts,
                    cycle.archived_ts,
                )
                for cycle in cycles
            ),
        )
    else:
        output.print_note(f"There is no cycle in schema {schema!r} yet. To make one: irp cycle create Q1-2024")


@app.command(epilog="Example: irp cycle show Q1-2024")
def show(cycle: CycleName, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show one cycle and its stages."""
    from irp_pipeline.helpers.adopted import kept_of_cycle
    from irp_pipeline.helpers.cycle import progress_of_cycle
    from irp_pipeline.helpers.stage import stages_of_cycle

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        steps = progress_of_cycle(cycle)
        stages = [_summarised(stage, steps) for stage in stages_of_cycle(found.id)]
        kept = kept_of_cycle(found.id)
    files = _files(schema, cycle)
    if as_json:
        folder = None if files is None else str(files)
        shown = {"schema": schema, "cycle": found, "folder": folder, "stages": stages}
        output.print_json(shown | ({"adopted": kept} if kept else {}))
        return
    output.say(f"Cycle     {cycle}")
    output.say(f"Status    {found.status}")
    output.say(f"Schema    {schema}")
    output.say(f"Created   {output.local_time(found.created_ts)}")
    if found.archived_ts:
        output.say(f"Archived  {output.local_time(found.archived_ts)}")
    if files:
        output.say(f"Files     {files}")
    if stages:
        output.say()
        output.print_table(
            ("Stage", "Steps", "Completed", "Failed", "At work", "Runs"),
            (
                (
                    f"{stage.stage_num} {stage.stage_name}",
                    stage.steps,
                    stage.completed,
                    stage.failed,
                    stage.at_work,
                    stage.runs,
                )
                for stage in stages
            ),
        )
    print_kept(kept)


@app.command(epilog="Example: irp cycle archive Q1-2024")
def archive(
    cycle: CycleName,
    force: Force = False,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Archive a cycle.

    Its records stay and can be read; it takes no more work. The command refuses while steps or jobs are at work. To
    undo it: irp cycle reopen.
    """
    from irp_pipeline.helpers.cycle import CycleError, archive_cycle, refuse_while_at_work

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        if found.status is CycleStatus.ACTIVE and not force:
            try:
                refuse_while_at_work(found)
            except CycleError as error:
                raise CommandError(_with_force(error)) from None
        if force and not as_json:
            output.print_note("Ending what is at work …")
        if not archive_cycle(found.id, force=force):
            raise cycle_not_found(cycle, schema)
        archived = find_cycle(cycle, schema)
    if as_json:
        output.print_json({"schema": schema, "cycle": archived})
    elif found.archived_ts:
        output.say(f"The cycle {cycle} is archived already, since {output.local_time(found.archived_ts)}.")
    else:
        output.say(f"Archived the cycle {cycle} in schema {schema!r}.")


@app.command(epilog="Example: irp cycle reopen Q1-2024")
def reopen(cycle: CycleName, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Reopen an archived cycle.

    It takes work again. No other cycle is archived instead.
    """
    from irp_pipeline.helpers.cycle import reopen_cycle

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        if not reopen_cycle(found.id):
            raise cycle_not_found(cycle, schema)
        reopened = find_cycle(cycle, schema)
    if as_json:
        output.print_json({"schema": schema, "cycle": reopened})
    elif found.status is CycleStatus.ACTIVE:
        output.say(f"The cycle {cycle} is open already.")
    else:
        output.say(f"Reopened the cycle {cycle} in schema {schema!r}.")


@app.command(epilog="Example: irp cycle delete Q1-2024")
def delete(
    cycle: CycleName, force: Force = False, db_schema: DbSchema = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Delete a cycle with all its records.

    Its stages, steps, runs, batches and jobs are deleted with it; its files stay. The command refuses while steps or
    jobs are at work, and asks before it deletes.
    """
    from irp_pipeline.helpers.cycle import delete_cycle, progress_of_cycle

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        extent = _extent(progress_of_cycle(cycle))
        make_sure(
            f"Delete the cycle {cycle} in schema {schema!r} with {extent}? This cannot be undone.",
            yes,
            f"Deleting the cycle {cycle!r}",
        )
        if force and not as_json:
            output.print_note("Ending what is at work …")
        if not delete_cycle(found.id, force=force):
            raise cycle_not_found(cycle, schema)
    files = _files(schema, cycle)
    if as_json:
        output.print_json({"schema": schema, "cycle": found, "folder": None if files is None else str(files)})
        return
    output.say(f"Deleted the cycle {cycle} in schema {schema!r} with {extent}.")
    if files:
        output.print_note(f"Its files are still in {files}")


def _with_force(error: IrpError) -> str:
    """Suggest --force, for a run of a notebook that has ended without a record; only a person can know that."""
    return str(error) if "--force" in str(error) else f"{error}; or say --force, if it has ended and nobody recorded it"


def _summarised(stage: "Stage", steps: "list[StepProgress]") -> _StageSummary:
    of_stage = [step for step in steps if step.stage_num == stage.stage_num]
    statuses = [step.last_status for step in of_stage]
    return _StageSummary(
        stage_num=stage.stage_num,
        stage_name=stage.stage_name,
        created_ts=stage.created_ts,
        steps=len(of_stage),
        completed=statuses.count(StepStatus.COMPLETED) + statuses.count(StepStatus.SKIPPED),
        failed=statuses.count(StepStatus.FAILED),
        at_work=statuses.count(StepStatus.ACTIVE),
        runs=sum(step.last_run or 0 for step in of_stage),
    )


def _extent(steps: "list[StepProgress]") -> str:
    runs = sum(step.last_run or 0 for step in steps)
    extent = f"its {output.counted(len(steps), 'step')} and {output.counted(runs, 'step run')}"
    at_work = sum(step.last_status is StepStatus.ACTIVE for step in steps)
    return f"{extent}, {at_work} at work" if at_work else extent


def _files(schema: str, cycle: str) -> Path | None:
    """Return the folder of the cycle's files, if there is one."""
    from irp_pipeline import settings

    try:
        folder = settings.cycle_dir(schema, cycle)
    except settings.SettingsError:  # a schema whose name cannot be a folder
        return None
    return folder if folder.is_dir() else None
