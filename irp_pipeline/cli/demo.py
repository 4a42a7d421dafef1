"""``irp demo``: a whole cycle on a made-up portfolio."""

from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import schema_option, working_in
from irp_pipeline.cli.run import run

app = typer.Typer()

_SCHEMA = "demo"
_CYCLE = "Q1-2024"


@app.command(epilog="Example: irp demo")
def demo(
    rerun: Annotated[bool, typer.Option("--rerun", help="Do the steps again that are done and unchanged.")] = False,
) -> None:
    """Run a cycle on a made-up portfolio, in a schema of its own, and show what is recorded.

    A second time, what is done already is skipped.
    """
    from irp_pipeline import settings
    from irp_pipeline.cli.status import status
    from irp_pipeline.demo import LOCATIONS, write_sample
    from irp_pipeline.helpers.cycle import open_cycle
    from irp_pipeline.helpers.database import init_database

    output.print_note("Starting the database and making the schema …")
    settings.make_irp_home()
    with working_in(_SCHEMA) as schema:
        init_database()
        open_cycle(_CYCLE)
        folder = settings.cycle_dir(schema, _CYCLE)
        write_sample(folder)
    output.say(f"Cycle {_CYCLE} in schema {schema!r}: {LOCATIONS:,} synthetic locations, in {folder}")
    run(_CYCLE, rerun=rerun, db_schema=schema)
    status(_CYCLE, db_schema=schema)
    output.say("What to try next:")
    output.say(f"  irp history {_CYCLE} {schema_option(schema)}      what each step did")
    output.say("  irp demo                                  a second time: what is done is skipped")
    output.say(f"  irp ui {schema_option(schema)}                the same cycle in the Dagster UI")
