"""``irp demo``: a whole cycle on a made-up portfolio."""

from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import schema_option, working_in
from irp_pipeline.cli.run import run
from irp_pipeline.cycle_files import report_of

app = typer.Typer()

_SCHEMA = "demo"
_CYCLE = "Q1-2024"


@app.command(epilog="Example: irp demo")
def demo(
    rerun: Annotated[bool, typer.Option("--rerun", help="Also run steps that are done and unchanged.")] = False,
) -> None:
    """Run a whole cycle on a made-up portfolio with a made-up windstorm model, in a schema of its own.

    It ends with losses and a report. The first time, the engine compiles itself, which takes minutes; the second time,
    steps that are done are skipped.
    """
    import os

    from irp_pipeline import settings
    from irp_pipeline.cli.results import results
    from irp_pipeline.demo import LOCATIONS, write_sample
    from irp_pipeline.helpers.cycle import open_cycle
    from irp_pipeline.helpers.database import init_database

    output.print_note("Starting the database and making the schema …")
    settings.make_irp_home()
    os.umask(0o077)  # everything written from here on is in IRP_HOME
    with working_in(_SCHEMA) as schema:
        init_database()
        open_cycle(_CYCLE)
        folder = settings.cycle_dir(schema, _CYCLE)
        write_sample(folder)
    output.say(f"Cycle {_CYCLE} in schema {schema!r}: {LOCATIONS:,} synthetic locations, in {folder}")
    run(_CYCLE, rerun=rerun, db_schema=schema)
    output.say("The losses; nothing about them is real:")
    results(_CYCLE, db_schema=schema)
    output.say(f"The report: {report_of(folder)}")
    output.say("What to try next:")
    option = schema_option(schema)
    for command, why in (
        (f"irp report {_CYCLE} {option} --open", "the report in the browser, with the loss curves"),
        (f"irp status {_CYCLE} {option}", "the status of each step"),
        (f"irp history {_CYCLE} {option}", "what each step did, and when"),
        (f"irp job list {_CYCLE} {option}", "the jobs of the risk engine"),
        (f"irp ui {option}", "the same cycle in the Dagster UI"),
        ("irp demo", "a second time: what is done is skipped"),
    ):
        output.say(f"  {command:<45} {why}")
