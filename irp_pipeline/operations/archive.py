"""The archive of a backup: a ZIP file with the rows of each table, the files of the cycles, and a manifest.

====================  ================================================================================================
``manifest.json``     describes the backup, and lists each member with its size and SHA-256; written last. Its own
                      SHA-256 is the comment of the archive
``tables/NAME.copy``  the rows of a table as text of PostgreSQL's COPY, which every version of the server reads
``files/PATH``        a file, by its place below ``IRP_HOME/cycles/<schema>``
====================  ================================================================================================

Only members in the manifest count: a file that changed during the backup is packed again, under another name. Any
program that reads ZIP can open a backup. This module knows neither the database nor where the files come from.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from irp_pipeline.errors import IrpError

Progress = Callable[[str, int, int], None]
"""A function to call with the present action, the bytes done, and the total bytes."""

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_CHUNK: Final = 2**20
_COMPRESSION: Final = 1  # ten percent larger than with the best compression, in a fifth of the time
_COMPRESSED_ALREADY: Final = frozenset({".parquet", ".xlsx", ".png", ".gz", ".zip", ".zst", ".bz2", ".xz", ".jpg"})
_NAMED: Final = 5


class BackupError(IrpError):
    """A backup cannot be made, is damaged, or cannot be restored here."""


@dataclass(frozen=True)
class Member:
    """A member of the archive: its name, and the size and SHA-256 of its unpacked content."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Table:
    """The rows of a table.

    Attributes:
        name: the name of the table.
        columns: in the order of the values in a row.
        rows: the number of rows.
        member: the member with the rows.
        next_values: the next value of each identity column.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    member: Member
    next_values: dict[str, int]


@dataclass(frozen=True)
class Entry:
    """A file, a link or an empty folder.

    Attributes:
        path: where it is below the folder of the schema's cycles, with ``/`` between the parts.
        executable: whether the owner can execute the file.
        mtime_ns: when it last changed, in nanoseconds since 1970.
        member: the content of a file.
        same_as: the other file of which this one is a hard link.
        target: the target of a symbolic link.
    """

    path: str
    executable: bool = False
    mtime_ns: int = 0
    member: Member | None = None
    same_as: str | None = None
    target: str | None = None


@dataclass(frozen=True)
class Difference:
    """A file that differs from its record.

    Attributes:
        path: where it is below the folder of the schema's cycles.
        how: how it differs, as the continuation of a sentence that begins with the path.
    """

    path: str
    how: str


@dataclass(frozen=True)
class Manifest:
    """The description of a backup.

    Attributes:
        made_by: the version of irp-pipeline that made it.
        made_ts: when its rows were read, in ISO 8601.
        schema: the schema that was backed up.
        version: the revision of the schema.
        cycles: the names of its cycles.
        tables, entries: its content.
        differences: files that differed from their records; the backup has them as they were.
    """

    made_by: str
    made_ts: str
    schema: str
    version: str
    cycles: tuple[str, ...]
    tables: tuple[Table, ...]
    entries: tuple[Entry, ...]
    differences: tuple[Difference, ...]

    def members(self) -> list[Member]:
        """Return all members, those of the tables first."""
        files = (entry.member for entry in self.entries if entry.member is not None)
        return [*(table.member for table in self.tables), *files]

    @property
    def bytes(self) -> int:
        """The size of everything, unpacked."""
        return sum(member.bytes for member in self.members())

    @property
    def rows(self) -> int:
        """The number of rows in all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def files(self) -> int:
        """The number of files, including links."""
        return sum(entry.member is not None or bool(entry.same_as) or bool(entry.target) for entry in self.entries)


class Sink:
    """A member that is being written; it counts and hashes its content."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self._bytes = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        """Write the next part."""
        self._hash.update(content)
        self._bytes += len(content)
        return self._file.write(content)

    def member(self, name: str) -> Member:
        """Return the description of what was written."""
        return Member(name, self._bytes, self._hash.hexdigest())


class Writer:
    """Writes an archive.

    Args:
        path: the file, which is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION)
        self._names: set[str] = {_MANIFEST}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def add(self, name: str, write: Callable[[Sink], object]) -> Member:
        """Add a member.

        Args:
            name: its name; a name that is in use, or that ZIP cannot store, is slightly changed.
            write: writes its content.
        """
        name = self._free_name(name)
        info = zipfile.ZipInfo(name)
        is_compressed = PurePosixPath(name).suffix.lower() in _COMPRESSED_ALREADY
        info.compress_type = zipfile.ZIP_STORED if is_compressed else zipfile.ZIP_DEFLATED
        with self._zip.open(info, "w", force_zip64=True) as file:
            sink = Sink(file)
            write(sink)
        return sink.member(name)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, which completes the archive."""
        content = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1).encode()
        self._zip.writestr(_MANIFEST, content)
        self._zip.comment = hashlib.sha256(content).hexdigest().encode()

    def _free_name(self, wanted: str) -> str:
        """Return an unused name; the name of a file need not be UTF-8."""
        wanted = wanted.encode("utf-8", errors="backslashreplace").decode()
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}~{number}"
        self._names.add(name)
        return name


class Reader:
    """Reads an archive.

    Args:
        path: the file.

    Raises:
        BackupError: it is not a complete backup, or has the format of a later version.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise BackupError(f"{path} is not a complete backup: {_lower(error)}. Use another one") from None
        try:
            self.manifest, self.id = self._read_manifest()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @contextmanager
    def open(self, member: Member) -> Iterator[IO[bytes]]:
        """Open a member for reading.

        Raises:
            BackupError: the archive has no such member, or its content is damaged.
        """
        try:
            with self._zip.open(member.name) as file:
                yield file
        except (KeyError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
            raise BackupError(f"{self._path} is damaged: {member.name}: {_lower(error)}. Use another backup") from error

    def verify(self, progress: Progress | None = None) -> None:
        """Read everything and compare it with the manifest.

        Raises:
            BackupError: members are missing or differ; the message names the first ones.
        """
        wrong, done, total = [], 0, self.manifest.bytes
        for member in self.manifest.members():
            digest, size = hashlib.sha256(), 0
            try:
                with self.open(member) as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
                        size += len(chunk)
            except BackupError:
                size = -1
            if (size, digest.hexdigest()) != (member.bytes, member.sha256):
                wrong.append(member.name)
            done += member.bytes
            if progress is not None:
                progress("Verifying", done, total)
        if wrong:
            more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
            raise BackupError(
                f"{self._path} is damaged. These members are missing or not what was packed: "
                f"{', '.join(wrong[:_NAMED])}{more}. Use another backup"
            )

    def _read_manifest(self) -> tuple[Manifest, str]:
        try:
            content = self._zip.read(_MANIFEST)
        except (KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise BackupError(
                f"{self._path} is not a backup of irp, or is damaged: its manifest cannot be read"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        if self._zip.comment.decode(errors="replace") != digest:
            raise BackupError(f"{self._path} is damaged: its manifest is not the one that was written. Use another one")
        try:
            found = json.loads(content)
            if found.pop("format") > FORMAT:
                raise BackupError(
                    f"{self._path} was made by irp-pipeline {found.get('made_by')}, whose backups this version cannot "
                    "read: install the newer irp-pipeline"
                )
            return _manifest(found), digest
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackupError(f"{self._path} is not a backup of irp: its manifest cannot be read: {error}") from error


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a backup, without verifying the rest. Raises the same errors as :class:`Reader`."""
    with Reader(path) as archive:
        return archive.manifest


def verify_backup(path: Path, progress: Progress | None = None) -> Manifest:
    """Read a whole backup and compare it with its hashes; return its manifest.

    Raises:
        BackupError: it is not a backup, or is damaged.
        OSError: it cannot be read.
    """
    with Reader(path) as archive:
        archive.verify(progress)
        return archive.manifest


def copy(source: IO[bytes], target: Sink | IO[bytes]) -> None:
    """Copy the rest of a file."""
    while chunk := source.read(_CHUNK):
        target.write(chunk)


def _manifest(found: dict[str, Any]) -> Manifest:
    tables = tuple(
        Table(**table | {"columns": tuple(table["columns"]), "member": Member(**table["member"])})
        for table in found.pop("tables")
    )
    entries = tuple(
        Entry(**entry | {"member": Member(**entry["member"]) if entry["member"] else None})
        for entry in found.pop("entries")
    )
    for entry in entries:
        if not {"", ".", ".."}.isdisjoint(entry.path.split("/")) or "\0" in entry.path:
            raise ValueError(f"{entry.path!r} is outside of the folder of the cycles")
    originals = {entry.path for entry in entries if entry.member is not None}
    for entry in entries:
        if entry.same_as is not None and entry.same_as not in originals:
            raise ValueError(f"{entry.path!r} is said to be {entry.same_as!r}, which is not in it")
    differences = tuple(Difference(**difference) for difference in found.pop("differences"))
    return Manifest(
        **found | {"cycles": tuple(found["cycles"])}, tables=tables, entries=entries, differences=differences
    )


def _lower(error: BaseException) -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return text[:1].lower() + text[1:]
