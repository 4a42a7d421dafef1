"""Replacing all files of a schema by those of a backup, together with its rows.

Rows change in one transaction, files by renaming folders: these are two steps. So the new files are first unpacked to a
separate folder. Just before its commit, the transaction's number is written into a journal. A process that finds a
journal asks PostgreSQL whether that transaction was committed. If so, the folders are swapped; if not, the separate
folder is removed.

``IRP_HOME/cycles/.restoring/<schema>/``: ``new`` has the files of the backup, ``old`` the previous ones,
``journal.json`` names the transaction that decides.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from irp_pipeline import settings, store
from irp_pipeline.cycle_files import MADE
from irp_pipeline.files import link_or_copy, make_folder, sync_folder, write_atomically
from irp_pipeline.operations.archive import BackupError, Entry, Manifest, Progress, Reader, copy
from irp_pipeline.postgres.schemas import changing_schemas

_ASIDE: Final = ".restoring"
_JOURNAL: Final = "journal.json"


@dataclass(frozen=True)
class _Journal:
    """The transaction, and its database, that decides whether the files change."""

    backup: str
    system: str
    database: str
    transaction: str


class Swap:
    """The files of a schema, and those that will replace them.

    Args:
        schema: the schema.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.target = settings.cycles_dir(schema)
        self._aside = _aside(schema)
        self._new, self._old = self._aside / "new", self._aside / "old"

    def unpack(self, archive: Reader, progress: Progress | None = None) -> None:
        """Unpack the files of a backup to the separate folder, completely written to disk.

        Raises:
            BackupError: there is not enough room, or a file of the backup is damaged.
            OSError: a file cannot be written.
        """
        entries = archive.manifest.entries
        total = sum(entry.member.bytes for entry in entries if entry.member is not None)
        make_folder(self._new)
        if (free := shutil.disk_usage(self._new).free) < total:
            raise BackupError(
                f"The files of the backup need {total:,} bytes, and the disk of {self.target.parent} has {free:,} "
                "left. Make room, and try again"
            )
        done = 0
        # Links last: no file is ever written through one.
        for entry in sorted(entries, key=lambda entry: (entry.target is not None, entry.same_as is not None)):
            self._place(archive, entry)
            if entry.member is not None:
                done += entry.member.bytes
                if progress is not None:
                    progress("Unpacking files", done, total)
        os.sync()

    def publish(self, manifest: Manifest) -> None:
        """Publish the unpacked files that steps and jobs wrote in the store of files.

        Raises:
            StoreError: the store cannot be reached or written.
        """
        hashes = {entry.path: entry.member.sha256 for entry in manifest.entries if entry.member is not None}
        same = {entry.path: entry.same_as for entry in manifest.entries if entry.same_as is not None}
        found = [path for path in (*hashes, *same) if _is_made(path)]
        store.publish_all((self._new / path, f"{self.schema}/{path}", hashes[same.get(path, path)]) for path in found)

    def decide_with(self, connection: sa.Connection, backup: str) -> None:
        """Write the journal: if the transaction of a connection is committed, the files change.

        Args:
            connection: with the transaction that is about to be committed.
            backup: the id of the backup.
        """
        transaction = connection.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar()
        journal = _Journal(backup, *_database(connection), str(transaction))
        write_atomically(self._aside / _JOURNAL, json.dumps(asdict(journal)))

    def finish(self) -> str | None:
        """Finish or undo an interrupted restore.

        Returns:
            The id of the backup that it restored; None if there was no such restore, or it was undone.

        Raises:
            BackupError: it is unknown whether its rows were committed, or somebody has made files since.
            DatabaseError: the database is away.
        """
        journal = self._read_journal()
        if journal is not None and self._is_committed(journal):
            self._change()
            self.remove_aside()
            return journal.backup
        self.remove_aside()
        return None

    def remove_aside(self) -> None:
        """Remove the separate folder."""
        # The journal first: without it, the rest has no meaning.
        (self._aside / _JOURNAL).unlink(missing_ok=True)
        if self._aside.is_dir():
            sync_folder(self._aside)
        shutil.rmtree(self._aside, ignore_errors=True)
        with suppress(OSError):
            self._aside.parent.rmdir()

    def _change(self) -> None:
        if not self._new.is_dir():
            return
        if self.target.is_dir():
            if self._old.exists():
                raise BackupError(
                    f"A restore into the schema {self.schema!r} was interrupted, and somebody has made {self.target} "
                    "since. Move that away, and run irp restore again"
                )
            self.target.rename(self._old)
            sync_folder(self.target.parent)
        self._new.rename(self.target)
        sync_folder(self.target.parent)

    def _place(self, archive: Reader, entry: Entry) -> None:
        place = self._new / entry.path
        make_folder(place.parent)
        if entry.target is not None:
            place.symlink_to(entry.target)
        elif entry.same_as is not None:
            link_or_copy(self._new / entry.same_as, place)
        elif entry.member is None:
            make_folder(place)
        else:
            mode = 0o700 if entry.executable else 0o600
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with archive.open(entry.member) as content, open(os.open(place, flags, mode), "wb") as file:  # noqa: PTH123
                copy(content, file)
            os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))

    def _read_journal(self) -> _Journal | None:
        try:
            found: dict[str, Any] = json.loads((self._aside / _JOURNAL).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return _Journal(**found)

    def _is_committed(self, journal: _Journal) -> bool:
        with changing_schemas() as connection:  # an interrupted transaction has ended, since it held this lock
            here = _database(connection)
            if here != (journal.system, journal.database):
                raise BackupError(
                    f"A restore into the schema {self.schema!r} was interrupted on another database "
                    f"({journal.database}). Finish it there with irp restore --finish, or, if that database is gone, "
                    f"remove {self._aside}"
                )
            status = connection.exec_driver_sql(
                "SELECT pg_xact_status(%s::text::xid8)", (journal.transaction,)
            ).scalar()
        if status is None:
            raise BackupError(
                f"A restore into the schema {self.schema!r} was interrupted so long ago that PostgreSQL no longer "
                f"knows whether its rows were committed. Look whether they are those of the backup. If so, put "
                f"{self._new} in place of {self.target}. Then remove {self._aside}"
            )
        return bool(status == "committed")


def named_files(manifest: Manifest) -> list[str]:
    """Return the files of a backup that people know by name: workbooks, sources, and what else steps did not write."""
    is_file = (entry for entry in manifest.entries if entry.member is not None or entry.same_as is not None)
    return [entry.path for entry in is_file if not _is_made(entry.path)]


def _is_made(path: str) -> bool:
    return path.split("/")[1:2] in ([part] for part in MADE)


@contextmanager
def only_restore(schema: str) -> Iterator[Swap]:
    """Keep other restores in this ``IRP_HOME`` out during the block.

    Raises:
        BackupError: another restore is under way.
    """
    settings.make_irp_home()
    cycles = make_folder(settings.cycles_dir(schema).parent)
    descriptor = os.open(cycles, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"Another restore into {cycles} is under way. Wait for its end") from None
        yield Swap(schema)
    finally:
        os.close(descriptor)


def is_swapping(schema: str) -> bool:
    """Tell whether a restore is changing the files of a schema, or was interrupted while it did."""
    return (_aside(schema) / _JOURNAL).exists()


def refuse_while_swapping(schema: str) -> None:
    """Refuse to touch the files of a schema whose restore is unfinished.

    Raises:
        BackupError: it is unfinished.
    """
    if is_swapping(schema):
        raise BackupError(
            f"A restore into the schema {schema!r} is under way or was interrupted: its files may not be those of its "
            f"rows yet. Wait for its end; if it was interrupted, run: irp restore --finish --db-schema {schema}"
        )


def _aside(schema: str) -> Path:
    folder = settings.cycles_dir(schema)
    return folder.parent / _ASIDE / folder.name


def _database(connection: sa.Connection) -> tuple[str, str]:
    """Return what identifies a database: the number of its cluster, and its name."""
    row = connection.exec_driver_sql(
        "SELECT system_identifier::text, current_database()::text FROM pg_control_system()"
    ).one()
    return str(row[0]), str(row[1])
