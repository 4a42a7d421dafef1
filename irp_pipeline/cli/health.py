"""``irp health``: whether an installation works, for probes and monitoring."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import FAILED
from irp_pipeline.cli.options import AsJson, DbSchema, working_in

app = typer.Typer()


@app.command(epilog="Example: irp health --json")
def health(
    max_wait: Annotated[
        float | None,
        typer.Option("--max-wait", metavar="MINUTES", min=0, help="Also fail if a job waits longer for its engine."),
    ] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Check whether an installation works: exit status 0 if it does, else 1.

    Asks the database: does it answer, is the schema up to date, and does every step at work send its heartbeats? With
    IRP_FILES_URL, also whether the files of cycles can be reached.
    Also shows what is under way. Made for probes: it runs a few quick statements.
    """
    from irp_pipeline.operations.health import check_health

    with working_in(db_schema):
        found = check_health(None if max_wait is None else max_wait * 60)
    if as_json:
        output.print_json({"ok": found.is_well, **asdict(found)})
    else:
        answer = "answers" if found.is_reachable else "does not answer"
        output.say(f"Database     {found.database}: {answer}, {found.seconds:.2f} s")
        output.say(f"Files        {found.files}")
        output.say(f"Schema       {found.schema}, version {found.version or 'unknown'}")
        if found.jobs is not None:
            waiting = found.oldest_waiting_seconds
            output.say(f"Open cycles  {', '.join(found.open_cycles) or 'none'}")
            output.say(f"Steps        {output.counted(len(found.steps), 'step')} at work")
            output.say(f"Batches      {_counts(found.batches or {})}")
            output.say(f"Jobs         {_counts(found.jobs)}")
            if found.workers is not None:
                slots = output.counted(found.slots or 0, "slot")
                output.say(f"Workers      {output.counted(found.workers, 'worker')} with {slots}")
            if waiting is not None:
                output.say(f"Waiting      since {output.duration(timedelta(seconds=waiting))}")
        for step in found.steps:
            output.print_note(
                f"At work: {step.step} of {step.cycle}, run {step.run_num}, process {step.pid} on {step.host}, since "
                f"{output.duration(timedelta(seconds=step.seconds))}, last heard of {step.heartbeat_seconds:.0f} s ago"
            )
        for problem in found.problems:
            output.say(output.styled(("Problem      ", "bold red"), problem))
        if found.is_well:
            output.say("All is well.")
    if not found.is_well:
        raise typer.Exit(FAILED)


def _counts(by_status: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in by_status.items()) or "none"
