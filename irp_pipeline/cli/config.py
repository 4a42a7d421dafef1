"""``irp config``: the configuration workbook."""

from pathlib import Path
from typing import Annotated

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Write and check configuration workbooks.")

WorkbookFile = Annotated[Path, typer.Argument(metavar="FILE", help="The workbook, such as configuration.xlsx.")]


@app.command(epilog="Example: irp config template configuration.xlsx")
def template(
    file: WorkbookFile,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write an empty workbook, with drop-downs and notes on its columns."""
    from irp_pipeline.workbook import write_template

    written = write_template(file, overwrite)
    output.say(f"Wrote {written}. Fill its sheets, then: irp config check {written}")


@app.command(epilog="Example: irp config check configuration.xlsx")
def check(
    name: Annotated[
        str, typer.Argument(metavar="FILE", help="The workbook: a path, or an address such as s3://bucket/q1.xlsx.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check a workbook and show every mistake with its sheet, row and column."""
    from irp_pipeline import store
    from irp_pipeline.settings import models_folder, notebooks_folder
    from irp_pipeline.workbook import read_workbook, workbook_hash, workbook_notes

    file = store.bring(store.path_of_name(name))
    workbook = read_workbook(file, models_dir=models_folder(), notebooks_dir=notebooks_folder())
    counts = {
        "portfolios": len(workbook.portfolios),
        "analyses": len(workbook.analyses),
        "groupings": len(workbook.groupings),
        **({"notebooks": len(workbook.notebooks)} if workbook.notebooks else {}),
    }
    notes = [str(note) for note in workbook_notes(workbook, file.parent, models_folder())]
    if as_json:
        output.print_json({"file": name, "hash": workbook_hash(file), **counts, "notes": notes})
        return
    told = (
        output.counted(counts["portfolios"], "portfolio"),
        output.counted(counts["analyses"], "analysis", "analyses"),
        output.counted(counts["groupings"], "grouping"),
        *([output.counted(counts["notebooks"], "notebook")] if "notebooks" in counts else []),
    )
    output.say(f"{name} is valid: {', '.join(told)}")
    for note in notes:
        output.print_note(f"Note: {note}")
