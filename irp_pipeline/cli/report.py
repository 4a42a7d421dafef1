"""``irp report``: the report of a cycle in its present state."""

from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, working_in

app = typer.Typer()


@app.command(epilog="Example: irp report Q1-2024 --open")
def report(
    cycle: CycleName,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a cycle from its records, finished or not.

    It is one page to send and print. A summary in Markdown and a picture of the loss curves are written beside it.
    """
    from irp_pipeline import settings

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        folder = settings.cycle_dir(schema, found.cycle_name)
        settings.make_irp_home()
        from irp_pipeline.report import State, collect, update

        collected = collect(found.cycle_name)
        page = update(collected, found.id, folder)
    if as_json:
        answer = {"schema": schema, "cycle_name": cycle, "state": str(collected.state), "report": str(page)}
        output.print_json(answer)
    else:
        output.say(str(page))
        if collected.state is not State.COMPLETED:
            output.print_note(
                f"The cycle is {collected.state}: the report shows what there is, and says what is missing or wrong."
            )
    if open_it and typer.launch(page.as_uri()) != 0:
        output.print_note("There is no browser to show it in here: open the file on another machine.")
