"""``irp batch``: the batches of a cycle, and their status."""

from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.adoption import print_kept
from irp_pipeline.cli.failures import CommandError
from irp_pipeline.cli.job import print_jobs
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, schema_option, working_in

if TYPE_CHECKING:
    from irp_pipeline.helpers.batch import Batch

app = typer.Typer(no_args_is_help=True, help="List, show, reconcile and cancel batches of jobs.")

_LARGEST_ID = 2**63 - 1

BatchId = Annotated[
    int,
    typer.Argument(metavar="ID", min=1, max=_LARGEST_ID, help="Number of the batch, as irp batch list shows it."),
]


@app.command("list", epilog="Example: irp batch list Q1-2024")
def list_batches(cycle: CycleName, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """List the batches of a cycle, the oldest first."""
    from irp_pipeline.helpers import batch

    with working_in(db_schema) as schema:
        batches = batch.batches_of_cycle(find_cycle(cycle, schema).id)
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, "batches": batches})
        return
    if not batches:
        output.print_note(f"There is no batch in cycle {cycle} of schema {schema!r} yet.")
        return
    output.print_table(
        (
            *("Batch", "Type", "Status", "Jobs", "Of them"),
            output.with_zone("Submitted", (found.submitted_ts for found in batches)),
            output.with_zone("Completed", (found.completed_ts for found in batches)),
        ),
        (
            (
                found.id,
                found.batch_type,
                output.status_text(found.status),
                found.jobs,
                _counts(found),
                found.submitted_ts,
                found.completed_ts,
            )
            for found in batches
        ),
    )


@app.command(epilog="Example: irp batch show 3")
def show(batch_id: BatchId, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show one batch and its jobs, as they were last recorded."""
    from irp_pipeline.helpers import batch
    from irp_pipeline.helpers.adopted import kept_of_batch

    with working_in(db_schema) as schema:
        found = _require(batch_id, schema)
        jobs = batch.jobs_of_batch(batch_id)
        kept = kept_of_batch(batch_id)
    if as_json:
        shown = {"schema": schema, "batch": found, "jobs": [batch.batch_job_as_dict(job) for job in jobs]}
        output.print_json(shown | ({"adopted": kept} if kept else {}))
        return
    output.say(f"Batch      {batch_id} ({found.batch_type})")
    output.say(output.styled("Status     ", output.status_text(found.status)))
    output.say(f"Created    {output.local_time(found.created_ts)}")
    if found.submitted_ts:
        output.say(f"Submitted  {output.local_time(found.submitted_ts)}")
    if found.completed_ts:
        output.say(f"Completed  {output.local_time(found.completed_ts)}")
    if jobs:
        output.say()
        print_jobs(jobs)
    print_kept(kept)


@app.command(epilog="Example: irp batch recon 3")
def recon(batch_id: BatchId, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Ask the risk engines about a batch's jobs, and work out the status of the batch."""
    from irp_pipeline.helpers import batch

    with working_in(db_schema) as schema:
        batch.track_batch(batch_id)
        batch.recon_batch(batch_id)
        _print_outcome(_require(batch_id, schema), schema, as_json)


@app.command(epilog="Example: irp batch cancel 3")
def cancel(batch_id: BatchId, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Ask the risk engines to end the jobs of a batch; jobs that have ended stay as they are."""
    from irp_pipeline.helpers import batch

    with working_in(db_schema) as schema:
        batch.cancel_batch(batch_id)
        _print_outcome(_require(batch_id, schema), schema, as_json)


def _print_outcome(batch: "Batch", schema: str, as_json: bool) -> None:
    if as_json:
        output.print_json({"schema": schema, "batch": batch})
        return
    counts = _counts(batch)
    output.say(
        output.styled(
            f"The batch {batch.id} is ",
            output.status_text(batch.status),
            f": {counts}" if counts else ": no jobs",
        )
    )


def _counts(batch: "Batch") -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(batch.job_counts.items()))


def _require(batch_id: int, schema: str) -> "Batch":
    from irp_pipeline.helpers.batch import find_batch

    batch = find_batch(batch_id)
    if batch is None:
        raise CommandError(
            f"There is no batch with the id {batch_id} in schema {schema!r}. To list the batches: irp batch list "
            f"CYCLE {schema_option(schema)}"
        )
    return batch
