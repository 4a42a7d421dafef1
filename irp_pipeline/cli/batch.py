"""``irp batch``: the batches of a cycle, and their status."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.adoption import print_kept
from irp_pipeline.cli.failures import FAILED, CommandError
from irp_pipeline.cli.job import print_jobs
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, schema_option, working_in
from irp_pipeline.helpers.constants import BatchStatus

if TYPE_CHECKING:
    from irp_pipeline.helpers.batch import Batch
    from irp_pipeline.helpers.preview import Preview, PreviewedJob

app = typer.Typer(no_args_is_help=True, help="List, show, preview, reconcile and cancel batches of jobs.")

_LARGEST_ID = 2**63 - 1
_JOBS_SHOWN = 50
_SETTINGS_CHARACTERS = 200
_NOT_SETTINGS = ("name", "engine", "currency")

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
    if found.status is BatchStatus.INITIATED and (before := _predecessor(found)) is not None:
        output.say(f"Begins     when the batch of the type {before} is complete")
    if found.submitted_ts:
        output.say(f"Submitted  {output.local_time(found.submitted_ts)}")
    if found.completed_ts:
        output.say(f"Completed  {output.local_time(found.completed_ts)}")
    if jobs:
        output.say()
        print_jobs(jobs)
    print_kept(kept)


@app.command(epilog="Example: irp batch preview Q1-2024 sensitivity")
def preview(
    cycle: CycleName,
    batch_type: Annotated[str, typer.Argument(metavar="TYPE", help="Type of the batch; irp batch types lists them.")],
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show the first N jobs.")] = _JOBS_SHOWN,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Show the jobs that a batch type makes from the cycle's workbook, without making them.

    Compares them with the newest batch of the type, and checks them as before they are submitted, if the cycle has what
    that needs. The exit status is 1 if something keeps a job from running now.
    """
    from irp_pipeline.helpers.preview import preview_batch

    with working_in(db_schema) as schema:
        found = preview_batch(find_cycle(cycle, schema), batch_type)
    if as_json:
        shown = [
            {
                "name": job.name,
                "engine": job.engine,
                "novelty": job.novelty,
                "skipped": job.skipped,
                "overridden": job.overridden,
                "changes": {name: list(values) for name, values in job.changes.items()},
                "fault": job.fault,
                "parameters": dict(job.parameters),
            }
            for job in found.jobs[:limit]
        ]
        output.print_json(
            {
                "schema": schema,
                "cycle_name": cycle,
                "batch_type": batch_type,
                "batch": found.batch,
                "is_current": found.is_current,
                "total": len(found.jobs),
                "engines": dict(found.engines),
                "gone": list(found.gone),
                "problems": found.faults,
                "unchecked": found.unchecked,
                "jobs": shown,
            }
        )
    else:
        _say_preview(found, limit)
    if found.faults:
        raise typer.Exit(FAILED)


@app.command(epilog="Example: irp batch types")
def types(as_json: AsJson = False) -> None:
    """List the batch types that this project and other distributions declare."""
    from irp_pipeline.helpers.wanted import BATCH_TYPES

    declared = [
        {
            "batch_type": name,
            "after": declaration.after,
            "from_workbook": declaration.transform is not None,
            "distribution": BATCH_TYPES.distribution_of(name),
            "help": declaration.help,
        }
        for name, declaration in BATCH_TYPES.declared().items()
    ]
    faults = [fault.message for fault in BATCH_TYPES.faults()]
    if as_json:
        output.print_json({"batch_types": declared, "faults": faults})
        return
    output.print_table(
        ("Type", "After", "Jobs from the workbook", "Distribution", "What its jobs do"),
        (
            (
                of["batch_type"],
                of["after"],
                "yes" if of["from_workbook"] else "no",
                of["distribution"],
                of["help"],
            )
            for of in declared
        ),
    )
    for fault in faults:
        output.print_note(fault)


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


def _say_preview(found: "Preview", limit: int) -> None:
    novelties = Counter(job.novelty for job in found.jobs)
    counts = ", ".join(f"{number} {novelty}" for novelty, number in novelties.items())
    output.say(
        f"{output.counted(len(found.jobs), 'job')} of the type {found.batch_type}" + (f": {counts}" * bool(counts))
    )
    for engine, number in found.engines.items():
        output.say(f"  {number} for {engine}")
    if found.batch is not None:
        which = "has exactly these" if found.is_current else "has other jobs, so a new one would be made"
        output.say(f"Compared with batch {found.batch.id} ({found.batch.status}), which {which}.")
    if found.jobs:
        output.say()
        output.print_table(
            ("Job", "Engine", "", "Settings"),
            ((job.name, job.engine, _novelty(job), _settings(job)) for job in found.jobs[:limit]),
        )
    if len(found.jobs) > limit:
        output.print_note(f"These are {limit} of {len(found.jobs)} jobs; for more, say --limit N.")
    if found.gone:
        output.say(f"No longer asked for: {', '.join(found.gone)}")
    if found.unchecked is not None:
        output.print_note(f"The jobs were not checked: {found.unchecked}.")
    for fault in found.faults:
        output.say(output.styled(("wrong  ", "bold red"), fault))


def _novelty(job: "PreviewedJob") -> str:
    parts = [job.novelty.value, *(["overridden"] if job.overridden else []), *(["skipped"] if job.skipped else [])]
    return ", ".join(parts)


def _settings(job: "PreviewedJob") -> str:
    """What changed, else the parameters that are not of all jobs."""
    if job.changes:
        shown = [f"{name}: {_text(before)} → {_text(now)}" for name, (before, now) in job.changes.items()]
    else:
        shown = [
            f"{name}={_text(value)}"
            for name, value in job.parameters.items()
            if name not in _NOT_SETTINGS and value not in (None, [], {}, "")
        ]
    return "; ".join(shown)[:_SETTINGS_CHARACTERS]


def _text(value: object) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


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


def _predecessor(batch: "Batch") -> str | None:
    from irp_pipeline.helpers.wanted import BATCH_TYPES

    declared = BATCH_TYPES.declared().get(batch.batch_type)
    return None if declared is None else declared.after


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
