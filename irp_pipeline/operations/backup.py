"""Making a backup: the rows of a schema and the files of its cycles, consistent with each other, in one archive.

Files are packed first. Then the rows are read in one REPEATABLE READ snapshot. If a packed file differs from its record
in the snapshot, a step has completed in between: changed files are packed again, and a new snapshot is taken. Files
that still differ were changed or removed by somebody else; the manifest lists them.

With ``IRP_FILES_URL``, the files are first copied to this machine from there.

The archive gets its name when it is complete. Steps and jobs can work during a backup.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from irp_pipeline import __version__, settings, store
from irp_pipeline.files import appearing_when_whole
from irp_pipeline.operations.archive import BackupError, Difference, Manifest, Progress, Reader, Writer
from irp_pipeline.operations.packing import Packer
from irp_pipeline.operations.records import RecordedFile, read_tables, read_version, recorded_files, snapshot
from irp_pipeline.operations.swap import refuse_while_swapping
from irp_pipeline.postgres.context import get_current_schema
from irp_pipeline.postgres.running import execute_scalar, fetch_all
from irp_pipeline.postgres.schemas import current_version, latest_version, newer_version

_Found = tuple[str, int] | None  # hash and size of a packed file

_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.5  # a step publishes its files just before it records them


@dataclass(frozen=True)
class MadeBackup:
    """A backup that was made.

    Attributes:
        path: the archive.
        bytes: its size.
        manifest: what is in it.
    """

    path: Path
    bytes: int
    manifest: Manifest


def back_up(path: Path, progress: Progress | None = None) -> MadeBackup:
    """Back up the current schema with the files of its cycles.

    Args:
        path: the archive. A backup of that name is replaced once the new one is complete.
        progress: called with the progress.

    Raises:
        BackupError: the schema has no tables of ours, or those of a newer version; a restore of it is unfinished;
            ``path`` is a file that is not a backup, or is among the files of the cycles.
        DatabaseError: the database refuses or is away.
        OSError: a file cannot be read, or the archive cannot be written.
    """
    path, schema = path.absolute(), get_current_schema()
    folder = settings.cycles_dir(schema)
    _check_schema(schema)
    _check_place(path, folder)
    refuse_while_swapping(schema)
    with appearing_when_whole(path) as partial:
        partial.chmod(0o600)
        with Writer(partial) as archive:
            packer = Packer(folder, archive, progress)
            manifest = _pack_until_consistent(schema, packer, archive, progress)
            archive.finish(manifest)
    return MadeBackup(path, path.stat().st_size, manifest)


def _pack_until_consistent(schema: str, packer: Packer, archive: Writer, progress: Progress | None) -> Manifest:
    before: dict[RecordedFile, _Found] | None = None
    tries = 0
    while True:
        if store.is_elsewhere():
            _fetch_files(schema, progress)
        packer.update()
        tries += 1
        with snapshot():
            version = read_version()
            differences = _differences(packer, version)
            if not differences or differences == before or tries == _TRIES:
                if progress is not None:
                    progress("Packing records", 0, 0)
                return Manifest(
                    made_by=__version__,
                    made_ts=_moment(),
                    schema=schema,
                    version=version,
                    cycles=tuple(
                        row["cycle_name"] for row in fetch_all("SELECT cycle_name FROM irp_cycle ORDER BY id")
                    ),
                    tables=read_tables(schema, archive.add),
                    entries=packer.entries(),
                    differences=tuple(_difference(recorded, found) for recorded, found in differences.items()),
                )
        before = differences
        time.sleep(_PAUSE_SECONDS)


def _fetch_files(schema: str, progress: Progress | None) -> None:
    """Copy the files that are in the store, and belong into a backup, to this machine, where they are packed."""
    wanted = recorded_files(read_version())
    for number, recorded in enumerate(wanted):
        if progress is not None:
            progress("Fetching files", number, len(wanted))
        with suppress(store.MissingFileError):  # the manifest tells that it is missing
            store.fetch(f"{schema}/{recorded.path}", recorded.sha256)
    store.bring_all(schema)


def _differences(packer: Packer, version: str) -> dict[RecordedFile, _Found]:
    """Return the recorded files that differ from the packed ones, each with what is packed."""
    found = {recorded: packer.find(recorded.path) for recorded in recorded_files(version)}
    return {recorded: packed for recorded, packed in found.items() if packed != (recorded.sha256, recorded.bytes)}


def _difference(recorded: RecordedFile, found: _Found) -> Difference:
    return Difference(recorded.path, "is missing" if found is None else "has other content than recorded")


def _moment() -> str:
    now: datetime = execute_scalar("SELECT now()")
    return now.isoformat()


def _check_schema(schema: str) -> None:
    version = current_version(schema)
    if version is None:
        raise BackupError(
            f"There is nothing to back up: the schema {schema!r} does not exist in {settings.describe_database()}, or "
            "was never initialised"
        )
    if version > latest_version():
        raise BackupError(newer_version(schema, version))


def _check_place(path: Path, folder: Path) -> None:
    if path.resolve().is_relative_to(folder.resolve()):
        raise BackupError(f"{path} is among the files that are backed up. Name a file outside of {folder}")
    if path.is_file() and path.stat().st_size:
        try:
            Reader(path).__exit__()
        except BackupError as error:
            raise BackupError(
                f"{path} exists and is not replaced, since it is not a complete backup. Name another file, or remove it"
            ) from error
