"""``irp demo``: a whole cycle on a made-up portfolio, and with ``--second`` the quarter after it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.attribute import show_parts
from irp_pipeline.cli.compare import compare
from irp_pipeline.cli.failures import CommandError
from irp_pipeline.cli.options import schema_option, working_in
from irp_pipeline.cli.results import results
from irp_pipeline.cli.run import run
from irp_pipeline.cycle_files import report_of
from irp_pipeline.demo import GROUP, Quarter

app = typer.Typer()

_SCHEMA = "demo"
_OPTION = schema_option(_SCHEMA)


@app.command(epilog="Example: irp demo --second")
def demo(
    second: Annotated[
        bool,
        typer.Option(
            "--second",
            help="Run the quarter after it: other exposure, terms, model version and settings. Its report says what "
            "changed. The first quarter is run before it if it is not done.",
        ),
    ] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Also run steps that are done and unchanged.")] = False,
) -> None:
    """Run a whole cycle on a made-up portfolio with a made-up windstorm model, in a schema of its own.

    It ends with losses and a report. The first time, the engine compiles itself, which takes minutes; the second time,
    steps that are done are skipped.
    """
    import os

    from irp_pipeline import settings
    from irp_pipeline.helpers.database import init_database

    output.print_note("Starting the database and making the schema …")
    settings.make_irp_home()
    os.umask(0o077)  # everything written from here on is in IRP_HOME
    with working_in(_SCHEMA):
        init_database()
        with _shown_as_assets():
            if second:
                _run_second(rerun=rerun)
            else:
                _run_first(rerun=rerun)


@contextmanager
def _shown_as_assets() -> Iterator[None]:
    """Let the demo's schema be the default one meanwhile, whose cycles are the partitions of Dagster's assets.

    Not if somebody has named a default schema, or if there is one with cycles, which may have the same names.
    """
    import os

    from irp_pipeline.helpers.db_context import get_schema_from_env
    from irp_pipeline.postgres.schemas import list_initialised_schemas

    if "DB_SCHEMA" in os.environ or get_schema_from_env() in list_initialised_schemas():
        yield
        return
    os.environ["DB_SCHEMA"] = _SCHEMA
    try:
        yield
    finally:
        del os.environ["DB_SCHEMA"]


def _run_first(*, rerun: bool) -> None:
    _run_quarter(Quarter.FIRST, rerun=rerun)
    _say_what_to_try(
        (
            (f"irp report {Quarter.FIRST} {_OPTION} --open", "the report in the browser, with the loss curves"),
            (f"irp status {Quarter.FIRST} {_OPTION}", "the status of each step"),
            (f"irp history {Quarter.FIRST} {_OPTION}", "what each step did, and when"),
            (f"irp job list {Quarter.FIRST} {_OPTION}", "the jobs of the risk engine"),
            (f"irp ui {_OPTION}", "the same cycle in the Dagster UI"),
            ("irp demo", "a second time: what is done is skipped"),
            ("irp demo --second", "the next quarter: what changed, and why"),
        )
    )


def _run_second(*, rerun: bool) -> None:
    if not _is_done(Quarter.FIRST):
        output.say(f"The quarter before, {Quarter.FIRST}, is not done: it is run first.")
        _run_quarter(Quarter.FIRST, rerun=False)
    _run_quarter(Quarter.SECOND, rerun=rerun)
    output.say(f"What changed since {Quarter.FIRST}:")
    compare(Quarter.FIRST.value, Quarter.SECOND.value, analysis=GROUP, db_schema=_SCHEMA)
    _attribute()
    run(Quarter.SECOND.value, db_schema=_SCHEMA)  # of all steps, only the report has something new to say
    _say_what_to_try(
        (
            (f"irp report {Quarter.SECOND} {_OPTION} --open", "the report: how much, of what, how sure, what changed"),
            (f"irp compare {Quarter.FIRST} {Quarter.SECOND} {_OPTION}", "what changed, of every analysis"),
            (f"irp attribute {Quarter.FIRST} {Quarter.SECOND} {_OPTION}", "and why"),
            (f"irp exposure {Quarter.SECOND} {_OPTION}", "what is insured, beside the quarter before"),
            (f"irp cycle list {_OPTION}", "both cycles: opening one archives the one before"),
        )
    )


def _attribute() -> None:
    """Split the change into its parts, and show those of all analyses together."""
    from irp_pipeline.helpers.attribution import attribute

    output.say("Why it changed. What lies between both quarters is run as jobs of its own:")
    found = attribute(
        Quarter.SECOND.value, Quarter.FIRST.value, tell=lambda progress: output.print_note(f"{progress} …")
    )
    show_parts(found, only=GROUP)


def _run_quarter(quarter: Quarter, *, rerun: bool) -> None:
    from irp_pipeline import settings
    from irp_pipeline.demo import write_sample

    _open(quarter)
    folder = settings.cycle_dir(_SCHEMA, quarter)
    write_sample(folder, quarter)
    output.say(f"Cycle {quarter} in schema {_SCHEMA!r}: {quarter.locations:,} synthetic locations, in {folder}")
    run(quarter.value, rerun=rerun, db_schema=_SCHEMA)
    output.say("The losses; nothing about them is real:")
    results(quarter.value, db_schema=_SCHEMA)
    output.say(f"The report: {report_of(folder)}")


def _open(quarter: Quarter) -> None:
    """Open the cycle of a quarter.

    Raises:
        CommandError: it is archived, and takes no more work.
    """
    from irp_pipeline.helpers.constants import CycleStatus
    from irp_pipeline.helpers.cycle import find_cycle, replace_active_cycle

    cycle = find_cycle(quarter)
    if cycle is not None and cycle.status is CycleStatus.ARCHIVED:
        raise CommandError(
            f"The cycle {quarter} of the demo is archived, so it takes no more work. Its report: irp report {quarter} "
            f"{_OPTION}. To take the archiving back: irp cycle reopen {quarter} {_OPTION}"
        )
    opened = replace_active_cycle(quarter)
    if opened.archived is not None:
        output.say(f"Archived the cycle {opened.archived}: opening a cycle archives the one before. Its figures stay.")


def _is_done(quarter: Quarter) -> bool:
    from irp_pipeline.helpers.cycle import find_cycle
    from irp_pipeline.report import State, collect

    return find_cycle(quarter) is not None and collect(quarter).state is State.COMPLETED


def _say_what_to_try(commands: Iterable[tuple[str, str]]) -> None:
    output.say("What to try next:")
    for command, why in commands:
        output.say(f"  {command:<45} {why}")
