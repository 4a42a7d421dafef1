"""``irp files``: the files of cycles that are no longer needed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson, DbSchema, Yes, check_cycle_names, make_sure, working_in

if TYPE_CHECKING:
    from irp_pipeline.operations.pruning import Prunable

app = typer.Typer(no_args_is_help=True, help="Remove files of cycles that no record refers to.")

_A_DAY = 24.0  # the default of the library, which is only loaded when it is needed


@app.callback()
def files() -> None:
    """Remove files of cycles that no record refers to."""


@app.command(epilog="Example: irp files prune --dry-run")
def prune(
    cycles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CYCLE]...",
            help="Only in the folders of these cycles, recorded or not.",
            callback=check_cycle_names,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    grace_hours: Annotated[
        float, typer.Option("--grace-hours", metavar="N", min=0, help="Keep what changed within the last N hours.")
    ] = _A_DAY,
    db_schema: DbSchema = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Remove files that no record refers to.

    These are the scratch space of dead steps, folders of jobs without a record, and what the pipeline made for deleted
    cycles. Workbooks, sources, and the files of steps and jobs at work stay. The command asks before it removes.
    """
    from irp_pipeline.operations import pruning

    with working_in(db_schema) as schema:
        found = pruning.find_prunable(cycles or (), grace_hours)
        if not as_json:
            _show(found)
        removed: list[Prunable] = []
        if found and not dry_run:
            make_sure(f"Remove {_extent(found)}? This cannot be undone.", yes, "Pruning files")
            removed = pruning.prune(found, grace_hours)
    if as_json:
        answer = [_described(candidate) for candidate in (found if dry_run else removed)]
        output.print_json({"schema": schema, "dry_run": dry_run, "prunable" if dry_run else "removed": answer})
    elif not found:
        output.say(f"There is nothing to remove in the files of schema {schema!r}.")
    elif dry_run:
        output.say(f"Nothing was removed. Without --dry-run: {_extent(found)}.")
    else:
        output.say(f"Removed {_extent(removed)}.")


def _show(found: "list[Prunable]") -> None:
    if not found:
        return
    moments = [datetime.fromtimestamp(candidate.changed, UTC) for candidate in found]
    output.print_table(
        ("Cycle", "What", "Why", "Files", "Bytes", output.with_zone("Changed", moments)),
        (
            (candidate.cycle, _place(candidate.path), candidate.reason, candidate.files, float(candidate.bytes), moment)
            for candidate, moment in zip(found, moments, strict=True)
        ),
    )


def _place(path: Path) -> str:
    return path.name if path.parent.name not in {"jobs", ".scratch"} else f"{path.parent.name}/{path.name}"


def _extent(found: "list[Prunable]") -> str:
    total = sum(candidate.bytes for candidate in found)
    return f"{output.counted(len(found), 'folder')} with {total:,} bytes"


def _described(candidate: "Prunable") -> dict[str, Any]:
    return {
        "path": str(candidate.path),
        "cycle": candidate.cycle,
        "reason": candidate.reason,
        "files": candidate.files,
        "bytes": candidate.bytes,
        "changed_ts": datetime.fromtimestamp(candidate.changed, UTC),
    }
