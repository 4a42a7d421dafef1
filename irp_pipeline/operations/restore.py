"""Restoring a backup: its rows into a schema and its files into that schema's folder, both or neither.

The backup is verified before anything is changed. Its files are unpacked to a separate folder. Its rows are loaded in
one transaction, into new tables of the same version, which are then upgraded. A replaced schema keeps its tables, with
the rights and views on them; only its rows change. :mod:`irp_pipeline.operations.swap` makes rows and files change
together.

With ``IRP_FILES_URL`` the files that records name are also published there, before the rows change: nobody reads them
before. Files that are known by name follow after that.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from irp_pipeline import store
from irp_pipeline.helpers import ending
from irp_pipeline.operations.adoption import old_names
from irp_pipeline.operations.archive import BackupError, Manifest, Progress, Reader
from irp_pipeline.operations.records import load_tables, replace_rows
from irp_pipeline.operations.swap import Swap, named_files, only_restore
from irp_pipeline.postgres.context import check_schema_name
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.schemas import changing_schemas, current_version, latest_version, migrate, version_of
from irp_pipeline.postgres.statements import quote_identifier
from irp_pipeline.queue.schema import upgrade_queue


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Attributes:
        schema: the schema with the restored rows.
        folder: the folder with the restored files.
        manifest: of the backup.
        version: the present revision of the schema.
        replaced: whether there was a schema of that name.
        finished: whether it only had to finish an interrupted restore of this backup.
        left_out: tables of the backup that irp did not make; their rows were not restored.
    """

    schema: str
    folder: Path
    manifest: Manifest
    version: str
    replaced: bool
    finished: bool = False
    left_out: tuple[str, ...] = ()


def restore(
    path: Path,
    schema: str | None = None,
    *,
    replace: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Restore a backup.

    Args:
        path: the archive.
        schema: the schema to restore into; None means that of the backup.
        replace: whether to replace the rows and files of an existing schema.
        force: first end the steps and jobs that are at work in the replaced schema.
        progress: called with the progress.

    Raises:
        BackupError: the backup is damaged, or of a newer version; the schema or its files exist, and ``replace`` is not
            set; another restore is under way.
        DatabaseError: steps or jobs are at work in the schema; the database refuses or is away.
        EngineError: with ``force``, a risk engine cannot be reached to end its jobs.
        OSError: the archive cannot be read, or a file cannot be written.
        ValueError: not a schema name.
    """
    with Reader(path) as archive:
        manifest = archive.manifest
        schema = check_schema_name(schema or manifest.schema)
        _refuse_newer(path, manifest)
        with only_restore(schema) as swap:
            version = latest_version()
            if swap.finish() == archive.id:
                _put_named(swap, manifest)
                return Restored(schema, swap.target, manifest, version, replaced=replace, finished=True)
            replaced = _refuse_existing(swap, replace)
            archive.verify(progress)
            if force:
                ending.end_schema(schema, "its schema is to be replaced by a backup")
            _refuse_at_work(schema)
            left_out: list[str] = []
            upgrade_queue()
            try:
                swap.unpack(archive, progress)
                if store.is_elsewhere():
                    swap.publish(manifest)
                if progress is not None:
                    progress("Loading records", 0, 0)
                left_out = _load(archive, swap, replace)
            except BaseException as error:
                # The commit of the rows decides. The server may have committed although its answer was lost.
                if swap.finish() != archive.id or not isinstance(error, DatabaseError):
                    raise
            else:
                swap.finish()
            _put_named(swap, manifest)
    return Restored(schema, swap.target, manifest, version, replaced, left_out=tuple(left_out))


def _put_named(swap: Swap, manifest: Manifest) -> None:
    """Put workbooks, sources and other files that are known by name into the store, now that the rows have changed."""
    if store.is_elsewhere():
        for path in named_files(manifest):
            store.put(swap.target / path, f"{swap.schema}/{path}")


def finish_restore(schema: str) -> bool:
    """Finish or undo an interrupted restore; return whether its rows and files are now in place.

    Args:
        schema: the schema to which it restored.

    Raises:
        BackupError: it is unknown whether its rows were committed, or a restore is under way.
        DatabaseError: the database is away.
    """
    with only_restore(check_schema_name(schema)) as swap:
        return swap.finish() is not None


def _refuse_newer(path: Path, manifest: Manifest) -> None:
    latest = latest_version()
    if manifest.version > latest:
        raise BackupError(
            f"{path} is of a schema at version {manifest.version}, made by irp-pipeline {manifest.made_by}. This one "
            f"knows versions up to {latest}: install the newer irp-pipeline. Nothing was changed"
        )


def _refuse_existing(swap: Swap, replace: bool) -> bool:
    """Refuse to replace anything unless asked to; return whether there is something to replace."""
    exists = current_version(swap.schema) is not None
    has_files = swap.target.is_dir() and any(swap.target.iterdir())
    if (exists or has_files) and not replace:
        what = f"The schema {swap.schema!r} exists" if exists else f"There are files in {swap.target}"
        raise BackupError(
            f"{what}. To put the backup in its place, say --replace (in Python: replace=True). To keep it, restore "
            "under another name with --db-schema. Nothing was changed"
        )
    return exists or has_files


def _refuse_at_work(schema: str) -> None:
    """Refuse before the files are unpacked; work that begins later makes the loading of the rows refuse."""
    with changing_schemas() as connection:
        if (current := version_of(connection, schema)) is not None:
            ending.refuse_in_schema(connection, schema, current, "replaced")


def _load(archive: Reader, swap: Swap, replace: bool) -> list[str]:
    schema = swap.schema
    with changing_schemas() as connection:
        current = version_of(connection, schema)
        if current is None:
            left_out = _load_into(connection, schema, archive)
        elif not replace:
            raise BackupError(f"The schema {schema!r} has just been made by somebody else. Nothing was changed")
        else:
            ending.refuse_in_schema(connection, schema, current, "replaced")
            aside = f"irp_restore_{uuid.uuid4().hex}"
            left_out = _load_into(connection, aside, archive)
            migrate(connection, schema)
            if is_adopted := _is_adopted(archive.manifest):
                old_names.add_columns(connection, schema)
            replace_rows(connection, schema, aside)
            if is_adopted:
                old_names.add_triggers(connection, schema)
            connection.exec_driver_sql(f"DROP SCHEMA {quote_identifier(aside)} CASCADE")
        swap.decide_with(connection, archive.id)
    return left_out


def _load_into(connection: sa.Connection, schema: str, archive: Reader) -> list[str]:
    """Make tables of the version of the rows, load the rows, and upgrade both."""
    manifest = archive.manifest
    migrate(connection, schema, manifest.version)
    if is_adopted := _is_adopted(manifest):
        old_names.add_columns(connection, schema)
    left_out = load_tables(connection, schema, manifest.tables, lambda table: archive.open(table.member))
    migrate(connection, schema)
    if is_adopted:
        old_names.add_triggers(connection, schema)
    return left_out


def _is_adopted(manifest: Manifest) -> bool:
    """Tell whether the rows are of an adopted schema, whose old columns go on beside ours."""
    return old_names.are_among({table.name: table.columns for table in manifest.tables})
