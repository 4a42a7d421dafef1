"""``irp backup`` and ``irp restore``: save a schema and the files of its cycles in one archive, and restore them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson, DbSchema, Yes, make_sure, working_in
from irp_pipeline.cli.progress import progress_bar

if TYPE_CHECKING:
    from irp_pipeline.operations.archive import Manifest

app = typer.Typer()

_SHOWN = 10

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The backup, such as irp.zip.", show_default=False)]


@app.command(epilog="Example: irp backup /backups/irp-2024-03-31.zip")
def backup(
    file: BackupFile,
    verify: Annotated[
        bool, typer.Option("--verify", help="Make no backup: read FILE and compare each part with its hash.")
    ] = False,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Back up a schema with the files of its cycles.

    Rows and files are consistent with each other, even while steps and jobs are at work. An earlier backup of the same
    name is replaced once the new one is complete.
    """
    from irp_pipeline.operations.archive import verify_backup
    from irp_pipeline.operations.backup import back_up

    if verify:
        with progress_bar(quiet=as_json) as progress:
            manifest = verify_backup(file, progress)
        size = file.stat().st_size
    else:
        with working_in(db_schema), progress_bar(quiet=as_json) as progress:
            made = back_up(file, progress)
        manifest, size = made.manifest, made.bytes
    if as_json:
        output.print_json({"file": str(file.absolute()), "bytes": size, "verified": verify, **_described(manifest)})
        return
    did = "Verified" if verify else "Backed up"
    output.say(f"{did} the schema {manifest.schema!r} in {file}: {_extent(manifest)}, {size:,} bytes.")
    _tell_differences(manifest)


@app.command(epilog="Example: irp restore /backups/irp-2024-03-31.zip --db-schema look")
def restore(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The backup, such as irp.zip.", show_default=False)
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the rows and files of a schema that exists.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="First end the steps and jobs that are at work in the replaced schema."),
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Only finish or undo a restore that was interrupted; needs no FILE.")
    ] = False,
    db_schema: DbSchema = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Restore a schema with the files of its cycles from a backup.

    The schema is the one that was backed up, or the one of --db-schema. The backup is verified before anything is
    changed. A backup of an earlier version is upgraded. An existing schema is refused; with --replace, the command
    asks first. After an interruption, either nothing has changed, or the same command finishes the restore.
    """
    if finish == (file is not None):
        raise typer.BadParameter("Name a backup, or say --finish.", param_hint="FILE")
    if file is None:
        _finish(db_schema, as_json)
        return
    from irp_pipeline.operations.archive import read_manifest
    from irp_pipeline.operations.restore import restore as restore_backup

    manifest = read_manifest(file)
    schema = db_schema or manifest.schema
    if replace:
        make_sure(
            f"Replace all rows of the schema {schema!r} and all files of its cycles by those of {manifest.made_ts}: "
            f"{_extent(manifest)}? This cannot be undone.",
            yes,
            f"Replacing the schema {schema!r}",
        )
    with progress_bar(quiet=as_json) as progress:
        restored = restore_backup(file, schema, replace=replace, force=force, progress=progress)
    if as_json:
        output.print_json(
            {
                "file": str(file.absolute()),
                "schema": restored.schema,
                "folder": str(restored.folder),
                "version": restored.version,
                "replaced": restored.replaced,
                "finished": restored.finished,
                "left_out": list(restored.left_out),
                "backup": _described(restored.manifest),
            }
        )
        return
    did = "Finished restoring" if restored.finished else "Restored"
    output.say(f"{did} the schema {restored.schema!r} from {file}: {_extent(restored.manifest)}.")
    output.print_note(f"The files of its cycles are in {restored.folder}")
    for table in restored.left_out:
        output.print_note(f"Not restored: the table {table}, which irp did not make.")
    _tell_differences(restored.manifest)


def _finish(db_schema: str | None, as_json: bool) -> None:
    from irp_pipeline.operations.restore import finish_restore

    with working_in(db_schema) as schema:
        finished = finish_restore(schema)
    if as_json:
        output.print_json({"schema": schema, "finished": finished})
    elif finished:
        output.say(f"Finished the restore of the schema {schema!r}: its rows and files are those of the backup.")
    else:
        output.say(f"The schema {schema!r} has no restore to finish: its rows and files are as they were.")


def _described(manifest: "Manifest") -> dict[str, Any]:
    return {
        "schema": manifest.schema,
        "version": manifest.version,
        "made_by": manifest.made_by,
        "made_ts": manifest.made_ts,
        "cycles": list(manifest.cycles),
        "rows": manifest.rows,
        "files": manifest.files,
        "unpacked_bytes": manifest.bytes,
        "differences": [{"path": different.path, "how": different.how} for different in manifest.differences],
    }


def _extent(manifest: "Manifest") -> str:
    return (
        f"{output.counted(len(manifest.cycles), 'cycle')}, {output.counted(manifest.rows, 'row')} and "
        f"{output.counted(manifest.files, 'file')}"
    )


def _tell_differences(manifest: "Manifest") -> None:
    for different in manifest.differences[:_SHOWN]:
        output.print_note(f"Not as recorded: {different.path} {different.how}.")
    if (more := len(manifest.differences) - _SHOWN) > 0:
        output.print_note(f"And {more} more; see them all with --json.")
    if manifest.differences:
        output.print_note("They were changed or removed before the backup. Running their cycles makes them anew.")
