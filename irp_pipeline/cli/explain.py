"""``irp explain``: which steps of a cycle would run now, and why."""

from dataclasses import asdict
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.loading import loading
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, working_in

app = typer.Typer()

_STYLES = {"run": "yellow", "skip": "cyan", "depends": "magenta"}


@app.command(epilog="Example: irp explain Q1-2024 build_portfolios")
def explain(
    cycle: CycleName,
    step: Annotated[
        str | None, typer.Argument(metavar="STEP", help="Only this step, such as build_portfolios or notebook:NAME.")
    ] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Say which steps of a cycle would run now, and why, without running or changing anything.

    A step is skipped if its inputs have the same content as those of the run that did its work, and its files and
    records are still as that run left them.
    """
    with loading():
        from irp_pipeline.orchestration.explain import explain as explain_cycle
        from irp_pipeline.orchestration.jobs import STEPS

    if step is not None and step not in STEPS and not step.startswith("notebook:"):
        raise typer.BadParameter(f"There is no step {step!r}. The steps are: {', '.join(STEPS)}", param_hint="STEP")
    with working_in(db_schema) as schema:
        name = find_cycle(cycle, schema).cycle_name
        found = [item for item in explain_cycle(name) if step in {None, item.step.partition(".")[2]}]
    if as_json:
        output.print_json({"schema": schema, "cycle_name": name, "steps": [asdict(item) for item in found]})
        return
    for item in found:
        verdict = f"{item.foresight:<8}"
        output.say(output.styled("  ", (verdict, _STYLES[item.foresight]), f"{item.step}: {item.reason}"))
