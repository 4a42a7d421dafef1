"""The ``irp`` command: a thin layer over the helpers.

Each group of commands has a module; this one puts them together. A command reads its arguments, calls the helpers
and prints the outcome. Everything else belongs in the helpers, so that notebooks can use it too.

Rules for every command, and the modules that implement them:

* exit status 0: done; 1: failed, refused or not found; 2: wrong usage (:mod:`irp_pipeline.cli.failures`);
* standard output carries only the answer; notes, questions and errors go to standard error
  (:mod:`irp_pipeline.cli.output`);
* ``--json`` prints one JSON object, to standard output if the command succeeded, else to standard error;
* ``--db-schema`` chooses the schema, as ``schema=`` does for a helper (:mod:`irp_pipeline.cli.options`);
* a command that changes something is in the audit trail (:mod:`irp_pipeline.cli.trail`).

``irp --help`` must be quick: only the command that needs a heavy package imports it.
"""

import signal
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from irp_pipeline import __version__
from irp_pipeline.cli import (
    attribute,
    backup,
    batch,
    compare,
    config,
    cycle,
    db,
    demo,
    doctor,
    explain,
    exposure,
    files,
    health,
    job,
    model,
    notebook,
    repeat,
    report,
    results,
    run,
    sign_off,
    status,
    ui,
    worker,
)
from irp_pipeline.cli.failures import FailingInWords

app = typer.Typer(
    cls=FailingInWords,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # the traceback of a defect goes into a bug report: plain text, without values
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Start here: irp db init, then irp cycle create Q1-2024. If something does not work: irp doctor",
)
app.add_typer(cycle.app, name="cycle")
app.add_typer(config.app, name="config")
app.add_typer(exposure.app, name="exposure")
app.add_typer(run.app)
app.add_typer(explain.app)
app.add_typer(status.app)
app.add_typer(results.app)
app.add_typer(sign_off.app)
app.add_typer(compare.app)
app.add_typer(attribute.app)
app.add_typer(repeat.app)
app.add_typer(report.app)
app.add_typer(batch.app, name="batch")
app.add_typer(job.app, name="job")
app.add_typer(worker.app, name="worker")
app.add_typer(model.app, name="model")
app.add_typer(ui.app)
app.add_typer(db.app, name="db")
app.add_typer(backup.app)
app.add_typer(files.app, name="files")
app.add_typer(health.app)
app.add_typer(notebook.app, name="notebook")
app.add_typer(doctor.app)
app.add_typer(demo.app)


def main() -> None:
    """Run the command line, and end with :class:`SystemExit`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal without these characters shows "?" instead of a traceback
            stream.reconfigure(errors="replace")
    _hear_interrupts()
    app(prog_name="irp")


def _hear_interrupts() -> None:
    """Make SIGINT interrupt the command, even if a script started it with ``&``.

    A shell without job control starts such a command with SIGINT ignored, so that Ctrl-C in the script does not reach
    it. Dagster's handlers make a run react anyway, but not a command that waits for another run or for an answer, nor
    its child processes. A cancelled run loses nothing, so every command reacts. SIGHUP stays ignored under ``nohup``.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"irp {__version__}")
        raise typer.Exit


@app.callback()
def irp(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Insurance risk processing: run quarterly catastrophe-risk cycles and see their progress."""
