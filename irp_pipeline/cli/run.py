"""``irp run``: run a cycle here and now, with progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import FAILED, INTERRUPTED
from irp_pipeline.cli.loading import loading
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, schema_option, working_in

if TYPE_CHECKING:
    from dagster import DagsterEvent

app = typer.Typer()


@app.command(epilog="Example: irp run Q1-2024 --db-schema test_cycle --from extract")
def run(
    cycle: CycleName,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The workbook, a path or an address such as s3://…, instead of configuration.xlsx of the cycle.",
        ),
    ] = None,
    from_stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Start with this stage, such as extract.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="STEP",
            help="Run only this step, such as control_totals, or notebook:NAME for a notebook of the workbook.",
        ),
    ] = None,
    rerun: Annotated[bool, typer.Option("--rerun", help="Also run steps that are done and unchanged.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait while another run works on the cycle, instead of refusing.")
    ] = False,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Run a cycle: its steps one after the other, without those that are done.

    Only one run at a time works on a cycle, including runs of the UI. Ctrl-C cancels the run; the same command
    continues it.
    """
    with loading():
        from irp_pipeline.helpers.cycle import require_open_cycle
        from irp_pipeline.helpers.notebooks.of_workbook import notebook_of_cycle
        from irp_pipeline.launch import following_log, running_cycle
        from irp_pipeline.orchestration.instance import opened_instance
        from irp_pipeline.orchestration.jobs import only_notebook, selection
        from irp_pipeline.postgres.schemas import require_this_version

    if from_stage and only:
        raise typer.BadParameter("say either --from or --only")
    notebook = only.removeprefix(_NOTEBOOK) if only and only.startswith(_NOTEBOOK) else None
    try:
        selected = selection(from_stage, None if notebook else only)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    with working_in(db_schema) as schema:
        require_this_version()
        cycle_id = require_open_cycle(cycle).id
        run_config: dict[str, Any] = {
            "resources": {"database": {"config": {"db_schema": schema, "rerun_completed": rerun}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},  # progress is shown here instead
        }
        if notebook:
            stage = notebook_of_cycle(cycle_id, notebook).stage_name.lower()
            selected, run_config["ops"] = only_notebook(stage, notebook)
        if config is not None and (
            selected is None or "setup" in selected or "setup.validate_configuration" in selected
        ):
            workbook = {"config": {"workbook": _named(config)}}
            run_config["ops"] = {"setup": {"ops": {"validate_configuration": workbook}}}
        waiting = (_ignore if as_json else _print_waiting) if wait else None
        started = time.monotonic()
        with opened_instance() as instance:
            with (
                running_cycle(instance, cycle, run_config, selected, waiting) as (dagster_run, events),
                nullcontext(lambda: None)
                if as_json
                else following_log(instance, dagster_run.run_id, _print_progress) as catch_up,
            ):
                steps = list(_shown(events, catch_up, quiet=as_json))
            ended = instance.get_run_by_id(dagster_run.run_id)
    status = ended.status.value if ended else "FAILURE"
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        output.print_json(
            {
                "schema": schema,
                "cycle_name": cycle,
                "run_id": dagster_run.run_id,
                "status": status,
                "steps": [step.as_json() for step in steps],
            }
        )
    else:
        counts = ", ".join(f"{sum(step.status == word for step in steps)} {word}" for word in _WORDS)
        output.say(f"{status} after {seconds} s: {counts}. More: irp history {cycle} {schema_option(schema)}")
    if status == "CANCELED":
        raise typer.Exit(INTERRUPTED)
    if status != "SUCCESS":
        raise typer.Exit(FAILED)


_NOTEBOOK = "notebook:"
_WORDS = ("done", "skipped", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class _EndedStep:
    """How a step of the run ended.

    Attributes:
        step: its key.
        seconds: how long it took.
        status: one of the words above.
        why: why it failed, was skipped or ran, if known.
        problems: those of the workbook, if they made it fail.
    """

    step: str | None
    seconds: float
    status: str
    why: str | None
    problems: object = None

    def as_json(self) -> dict[str, object]:
        described = asdict(self)
        if not self.problems:
            del described["problems"]
        return described


def _shown(events: Iterator[DagsterEvent], catch_up: Callable[[], None], *, quiet: bool) -> Iterator[_EndedStep]:
    """Print each step as it begins and ends; yield how each ended. A part of a step is only reported if it fails.

    Args:
        events: of the run.
        catch_up: prints what has been logged so far.
        quiet: print nothing.
    """
    from irp_pipeline.orchestration.jobs import STEPS, executes_notebooks

    steps = set(STEPS.values())
    begun: dict[str, float] = {}
    reasons: dict[str, tuple[bool, str]] = {}
    for event in events:
        key = event.step_key or ""
        if event.is_step_start:
            begun[key] = time.monotonic()
            if not quiet and (key in steps or executes_notebooks(key)):
                output.print_note(f"  {key} …")
        elif event.is_successful_output:
            metadata = event.step_output_data.metadata
            if "why" in metadata:
                reasons[key] = bool(metadata["skipped"].value), str(metadata["why"].value)
        elif event.is_step_failure or (event.is_step_success and (key in steps or executes_notebooks(key))):
            ended = _ended(event, *reasons.get(key, (False, "")), time.monotonic() - begun.get(key, time.monotonic()))
            if not quiet:
                catch_up()
                _print_step(ended)
            yield ended


def _print_waiting(busy: Exception) -> None:
    output.print_note(f"Waiting. {busy}")


def _ignore(_: Exception) -> None:
    pass


def _print_progress(message: str) -> None:
    output.print_note(f"      {message}")


def _ended(event: DagsterEvent, skipped: bool, reason: str, seconds: float) -> _EndedStep:
    from irp_pipeline.orchestration.resources import PROBLEMS

    took = round(seconds, 3)
    if event.is_step_failure:
        data = event.step_failure_data
        described = data.user_failure_data.description if data.user_failure_data else None
        cause = data.error.cause or data.error if data.error else None
        why = described or (cause.message.strip() if cause else "unknown")
        problems = data.user_failure_data.metadata.get(PROBLEMS) if data.user_failure_data else None
        listed = problems.value if problems else None
        return _EndedStep(step=event.step_key, seconds=took, status="failed", why=why, problems=listed)
    return _EndedStep(step=event.step_key, seconds=took, status="skipped" if skipped else "done", why=reason or None)


def _print_step(ended: _EndedStep) -> None:
    style = {"done": "green", "skipped": "cyan", "failed": "bold red"}[ended.status]
    why = f": {ended.why}" if ended.why else ""
    output.say(output.styled("  ", (f"{ended.status:<8}", style), f"{ended.step} ({ended.seconds:.1f} s){why}"))


def _named(workbook: str) -> str:
    """Return the name of a workbook as any process understands it: paths of files here are absolute."""
    from irp_pipeline import settings
    from irp_pipeline.settings.addresses import is_address

    path = Path(workbook).expanduser()
    is_here = path.exists() or settings.files_url() is None
    return workbook if is_address(workbook) or not is_here else str(path.absolute())
