"""``irp job``: the jobs of a cycle, and what can be done about one."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.adoption import print_kept
from irp_pipeline.cli.failures import FAILED, CommandError
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, schema_option, working_in
from irp_pipeline.helpers.constants import BatchType, JobStatus

if TYPE_CHECKING:
    from irp_pipeline.helpers.job import Job, JobInCycle

app = typer.Typer(no_args_is_help=True, help="List, show, resubmit, skip and cancel jobs.")

_LARGEST_ID = 2**63 - 1

JobId = Annotated[
    int,
    typer.Argument(metavar="ID", min=1, max=_LARGEST_ID, help="Number of the job, as irp job list shows it."),
]


def _parameters(text: str | None) -> str | None:
    """Check the value of ``--override``; the command parses it later."""
    if text is not None:
        try:
            if not isinstance(json.loads(text, parse_constant=_refuse_constant), dict):
                raise ValueError("it is not an object")
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(f"not a JSON object such as '{{\"samples\": 100}}': {error}") from None
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


@app.command("list", epilog="Example: irp job list Q1-2024 --status FAILED")
def list_jobs(
    cycle: CycleName,
    status: Annotated[
        JobStatus | None, typer.Option("--status", case_sensitive=False, help="Only jobs with this status.")
    ] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs of a cycle, the oldest first."""
    from irp_pipeline.helpers import job

    with working_in(db_schema) as schema:
        jobs = job.jobs_of_cycle(find_cycle(cycle, schema).id, status)
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, "jobs": jobs})
    elif jobs:
        print_jobs(jobs)
    else:
        which = f"No job is {status}" if status else "There is no job"
        output.print_note(f"{which} in cycle {cycle} of schema {schema!r}.")


@app.command(epilog="Example: irp job show 17")
def show(job_id: JobId, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show one job: its parameters, its history, and the jobs that it replaced."""
    from irp_pipeline.helpers import job
    from irp_pipeline.helpers.adopted import kept_of_job

    with working_in(db_schema) as schema:
        found = _require(job_id, schema)
        history = job.history_of_job(job_id)
        kept = kept_of_job(job_id)
    if as_json:
        described = [entry.as_dict() for entry in history]
        shown = {"schema": schema, "job": job.job_as_dict(found), "history": described}
        output.print_json(shown | ({"adopted": kept} if kept else {}))
        return
    for title, value in _facts(found):
        output.say(f"{title:<11}{value}")
    output.say()
    output.say(json.dumps(found.job_configuration_data, indent=2, ensure_ascii=False))
    entries = [(of.job.id, entry) for of in history for entry in of.tracking]
    if entries:
        output.say()
        output.print_table(
            ("Job", "Status", "What", output.with_zone("When", (entry.logged_ts for _, entry in entries))),
            ((number, output.status_text(entry.status), entry.message, entry.logged_ts) for number, entry in entries),
        )
    print_kept(kept)


@app.command(
    epilog="""Example: irp job resubmit 17 --override '{"samples": 99}' --reason "too few\"""",
)
def resubmit(
    job_id: JobId,
    override: Annotated[
        str | None,
        typer.Option(
            "--override",
            metavar="JSON",
            help="Parameters to replace, as a JSON object of columns of the sheet Analyses. Needs --reason.",
            callback=_parameters,
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="The reason; kept with the new parameters.")
    ] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Replace a job that has ended by a new one, and submit that.

    The old job is kept and skipped. Cancel a job first if it is under way.
    """
    from irp_pipeline.helpers import job

    if override is not None and not (reason or "").strip():
        raise typer.BadParameter("other parameters need a reason: say --reason", param_hint="--override")
    with working_in(db_schema) as schema:
        new_id = job.resubmit_job(job_id, None if override is None else json.loads(override), reason)
        status = job.submit_job(new_id)
        new = _require(new_id, schema)
    _tell_of_new(job_id, new, status, schema, as_json, "Resubmitted")


@app.command(epilog='Example: irp job skip 17 --reason "no such model"')
def skip(
    job_id: JobId,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="The reason; kept with the job.")
    ] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Skip a job: its batch no longer waits for it."""
    from irp_pipeline.helpers import job

    with working_in(db_schema) as schema:
        job.skip_job(job_id, reason)
        skipped = _require(job_id, schema)
    if as_json:
        output.print_json({"schema": schema, "job": job.job_as_dict(skipped)})
    else:
        output.say(f"Skipped the job {job_id}.")


@app.command(epilog='Example: irp job restore 17 --reason "the data was mended"')
def restore(
    job_id: JobId,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="The reason; kept with the job.")
    ] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the workbook: undo an override or a skip, and submit the job with the workbook's parameters."""
    from irp_pipeline.helpers import job

    with working_in(db_schema) as schema:
        new_id = job.restore_job(job_id, reason)
        status = job.submit_job(new_id)
        new = _require(new_id, schema)
    _tell_of_new(job_id, new, status, schema, as_json, "Restored")


@app.command(epilog="Example: irp job cancel 17")
def cancel(job_id: JobId, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Ask the risk engine to end a job; a job that has ended stays as it is."""
    from irp_pipeline.helpers import job

    with working_in(db_schema) as schema:
        status = job.cancel_job(job_id)
        cancelled = _require(job_id, schema)
    if as_json:
        output.print_json({"schema": schema, "job": job.job_as_dict(cancelled)})
    else:
        output.say(output.styled(f"The job {job_id} is ", output.status_text(status), "."))


@app.command(epilog="Example: irp job log 17")
def log(job_id: JobId, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show what the risk engine printed for a job."""
    from irp_pipeline.helpers import job

    with working_in(db_schema) as schema:
        text = job.job_log(job_id)
    if as_json:
        output.print_json({"schema": schema, "job_id": job_id, "log": text})
    elif text:
        output.say(text.rstrip("\n"))
    else:
        output.print_note(f"The risk engine printed nothing for the job {job_id} yet.")


def _tell_of_new(job_id: int, new: "JobInCycle", status: JobStatus, schema: str, as_json: bool, done: str) -> None:
    """Print the job that replaced another one."""
    from irp_pipeline.helpers.job import job_as_dict

    if as_json:
        output.print_json({"schema": schema, "job": job_as_dict(new)})
    else:
        output.say(output.styled(f"{done} the job {job_id} as job {new.id}: ", output.status_text(status)))
        if new.error_message:
            output.print_note(new.error_message)
    if status is JobStatus.ERROR:
        raise typer.Exit(FAILED)


def print_jobs(jobs: "Sequence[Job]") -> None:
    """Print jobs as a table."""
    output.print_table(
        (
            "Job",
            "Batch",
            "Analysis",
            "Engine",
            "Status",
            output.with_zone("Submitted", (job.submitted_ts for job in jobs)),
            "Took",
            "Note",
        ),
        (
            (
                job.id,
                job.batch_id if job.batch_type == BatchType.ANALYSIS else f"{job.batch_id} {job.batch_type}",
                job.analysis,
                job.engine,
                output.status_text(job.status),
                job.submitted_ts,
                job.completed_ts - job.submitted_ts if job.completed_ts and job.submitted_ts else None,
                _note(job),
            )
            for job in jobs
        ),
    )


def _note(job: "Job") -> str:
    parts = []
    if job.skipped:
        parts.append("skipped")
    if job.parent_job_id is not None:
        parts.append(f"replaces job {job.parent_job_id}")
    if job.work_job_id is not None:
        parts.append(f"result of job {job.work_job_id}")
    if job.error_message:
        parts.append(job.error_message.partition("\n")[0])
    return "; ".join(parts)


def _facts(job: "JobInCycle") -> Iterable[tuple[str, object]]:
    yield "Job", job.id
    yield "Status", f"{job.status}, skipped" if job.skipped else job.status
    yield "Cycle", job.cycle_name
    yield "Batch", f"{job.batch_id} ({job.batch_type})"
    for title, when in (("Created", job.created_ts), ("Submitted", job.submitted_ts), ("Completed", job.completed_ts)):
        if when:
            yield title, output.local_time(when)
    if job.parent_job_id is not None:
        yield "Replaces", f"job {job.parent_job_id}"
    if job.work_job_id is not None:
        yield "Result of", f"job {job.work_job_id}, which had the same request"
    if job.override_reason:
        yield "Overridden", job.override_reason
    if folder := job.folder:
        yield "Files", folder
    if job.error_message:
        yield "Error", job.error_message


def _require(job_id: int, schema: str) -> "JobInCycle":
    from irp_pipeline.helpers.job import find_job

    job = find_job(job_id, with_data=True)
    if job is None:
        raise _not_found(job_id, schema)
    return job


def _not_found(job_id: int, schema: str) -> CommandError:
    return CommandError(
        f"There is no job with the id {job_id} in schema {schema!r}. To list the jobs: irp job list CYCLE "
        f"{schema_option(schema)}"
    )
