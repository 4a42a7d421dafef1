"""``irp status`` and ``irp history``: the status of a cycle, and what happened in it."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, schema_option, working_in
from irp_pipeline.helpers.constants import JobStatus, StepStatus

if TYPE_CHECKING:
    from irp_pipeline.helpers.batch import Batch
    from irp_pipeline.helpers.cycle import PastRun, StepProgress
    from irp_pipeline.helpers.sanity import RecordedCheck

app = typer.Typer()

_RUNS_SHOWN = 50
_RESULT_CHARACTERS = 100
_ERRORS_SHOWN = 5


@app.command(epilog="Example: irp status Q1-2024")
def status(cycle: CycleName, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show the status of each step of a cycle, and of the batches that its workbook asks for."""
    from irp_pipeline.helpers.batch_lookup import chain_of_cycle
    from irp_pipeline.helpers.batch_of_jobs import BatchError
    from irp_pipeline.helpers.cycle import progress_of_cycle
    from irp_pipeline.helpers.sanity import find_recorded_check
    from irp_pipeline.helpers.sign_off import find_sign_off

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        steps = progress_of_cycle(cycle)
        losses = find_recorded_check(found.id)
        sign_off = find_sign_off(found.id)
        try:
            batches, fault = [link.batch for link in chain_of_cycle(found.id)], None
        except BatchError as error:  # of a transformer, which a distribution may have changed since
            batches, fault = [], str(error)
    if as_json:
        output.print_json(
            {
                "schema": schema,
                "cycle": found,
                "steps": steps,
                "batches": batches,
                "losses": None if losses is None else losses.as_json(),
                "sign_off": sign_off.content(),
            }
        )
        return
    output.say(
        output.styled(
            (cycle, "bold"),
            "  ",
            output.status_text(found.status),
            f"  in schema {schema!r}, created {output.local_time(found.created_ts)}",
        )
    )
    if not steps:
        output.print_note("No step of this cycle has been started yet.")
        return
    completions = [step.last_completed for step in steps]
    output.print_table(
        ("Stage", "Step", "Status", "Run", output.with_zone("Last completed", completions)),
        (
            (
                f"{step.stage_num} {step.stage_name}",
                f"{step.step_num} {step.step_name}",
                output.status_text(step.last_status) + (" (cancelled)" if step.was_cancelled else ""),
                step.last_run,
                step.last_completed,
            )
            for step in steps
        ),
    )
    output.say(_summary(steps))
    if len(batches) > 1:
        output.say(f"Batches: {', '.join(map(_in_words, batches))}")
    if fault is not None:
        output.print_note(fault)
    if any(step.last_status is StepStatus.FAILED for step in steps):
        output.print_note(f"To see why: irp history {cycle} {schema_option(schema)} --full")
    if sign_off.figures:
        output.say(f"Sign-off: {sign_off}")
    if losses is not None:
        _say_findings(losses, f"{cycle} {schema_option(schema)}".rstrip())


@app.command(epilog="Example: irp history Q1-2024 --stage 2 --step 1 --full")
def history(
    cycle: CycleName,
    stage: Annotated[int | None, typer.Option("--stage", metavar="N", min=0, help="Only this stage.")] = None,
    step: Annotated[int | None, typer.Option("--step", metavar="N", min=0, help="Only steps of this number.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show the newest N runs.")] = _RUNS_SHOWN,
    full: Annotated[bool, typer.Option("--full", help="Show complete error messages below the table.")] = False,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Show the step runs of a cycle.

    Who ran what, when, and with which result; the newest run comes first.
    """
    from irp_pipeline.helpers.cycle import past_runs_of_cycle

    with working_in(db_schema) as schema:
        find_cycle(cycle, schema)
        found = past_runs_of_cycle(cycle, stage, step)
    runs = found[:limit]
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, "total": len(found), "runs": runs})
        return
    if not runs:
        chosen = "No such" if stage is not None or step is not None else "No"
        output.print_note(f"{chosen} step run in cycle {cycle} of schema {schema!r} yet.")
        return
    starts = [run.started_ts for run in runs]
    output.print_table(
        ("Step", "Run", "Status", output.with_zone("Started", starts), "Took", "By", "Result"),
        (
            (
                f"{run.stage_num}.{run.step_num} {run.step_name}",
                run.run_num,
                output.status_text(run.status),
                run.started_ts,
                run.completed_ts - run.started_ts if run.completed_ts else None,
                run.started_by,
                _result(run),
            )
            for run in runs
        ),
    )
    if full:
        _say_whole_errors(runs)
    if len(runs) < len(found):
        output.print_note(f"These are the newest {len(runs)} of {len(found)} step runs; for more, say --limit N.")


def _in_words(batch: "Batch") -> str:
    finished = batch.job_counts.get(JobStatus.FINISHED, 0)
    return f"{batch.batch_type} {batch.status}, {finished} of {output.counted(batch.jobs, 'job')}"


def _summary(steps: "list[StepProgress]") -> str:
    """Return the number of steps by status, the most important first."""
    count = Counter(step.last_status for step in steps)
    done = count[StepStatus.COMPLETED] + count[StepStatus.SKIPPED]
    parts = [f"Of {output.counted(len(steps), 'step')} on record, {done} {'is' if done == 1 else 'are'} done"]
    for status, words in ((StepStatus.FAILED, "failed"), (StepStatus.ACTIVE, "at work"), (None, "never ran")):
        if count[status]:
            parts.append(f"{count[status]} {words}")
    return ", ".join(parts)


def _say_findings(losses: "RecordedCheck", cycle: str) -> None:
    """Print the errors that were found about the losses, and how many warnings there are."""
    from irp_pipeline.helpers.sanity import Severity

    for finding in losses.of(Severity.ERROR)[:_ERRORS_SHOWN]:
        output.print_note(str(finding))
    if losses.errors or losses.warnings:
        counts = f"{output.counted(losses.errors, 'error')} and {output.counted(losses.warnings, 'warning')}"
        output.print_note(f"The losses have {counts}. All findings are in the report: irp report {cycle}")


def _result(run: "PastRun") -> str:
    """Return the outcome of a run in one line: why it failed, which run did the work, or what it produced."""
    if run.error_message:
        return _first_line(run.error_message)
    if run.status is StepStatus.SKIPPED and run.work_run_num is not None:
        return f"done in run {run.work_run_num}"
    produced = run.output_data
    if not isinstance(produced, dict):
        return ""
    text = ", ".join(
        f"{name} {_short(value)}" for name, value in produced.items() if not isinstance(value, dict | list)
    )
    return text if len(text) <= _RESULT_CHARACTERS else text[: _RESULT_CHARACTERS - 1] + "…"


def _short(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0].rstrip()


def _say_whole_errors(runs: "list[PastRun]") -> None:
    for run in runs:
        if run.error_message:
            step = output.visible(f"{run.stage_num}.{run.step_num} {run.step_name}", one_line=True)
            output.say()
            output.say(output.styled((f"{step}, run {run.run_num}:", "bold")))
            output.say(run.error_message.rstrip())
