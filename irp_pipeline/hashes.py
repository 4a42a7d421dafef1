"""Hashes of files, tables and values: they depend on the content only, not on names, places or times.

File hashes are remembered in ``IRP_HOME``. A file is read again only if its size, modification time or inode differ
from the remembered ones. Nothing here uses the database.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline import settings

if TYPE_CHECKING:
    import pyarrow as pa

_MEMORY: Final = "hashes.sqlite3"
_BATCH_ROWS: Final = 2**16
_LOCK_SECONDS: Final = 10.0
# A file that changes again within one tick of its file system's clock keeps its modification time.
_TICK_SECONDS: Final = 0.1
_COARSE_TICK_SECONDS: Final = 2.1


def file_sha256(path: Path, *, recheck: bool = False) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: the file. If it has not changed since it was last hashed, it is not read.
        recheck: read it anyway.

    Raises:
        OSError: it cannot be read.
        SettingsError: ``IRP_HOME`` cannot be used.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - links are not resolved
    found = path.stat()
    if not recheck and _is_settled(found):
        with _memory() as memory:
            known = memory.execute(
                "SELECT sha256 FROM file WHERE path = ? AND bytes = ? AND mtime_ns = ? AND inode = ?",
                (str(path), found.st_size, found.st_mtime_ns, found.st_ino),
            ).fetchone()
        if known:
            return str(known[0])
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if _identity(found) == _identity(after):
        _remember(path, found, digest)
    return digest


def remember(path: Path, sha256: str) -> None:
    """Remember the hash of a file that was hashed while it was written, or under another name."""
    path = Path(os.path.abspath(path))  # noqa: PTH100
    _remember(path, path.stat(), sha256)


def remember_all(files: Mapping[Path, str]) -> None:
    """Remember the hashes of several files, by path; otherwise as :func:`remember`."""
    rows = []
    for path, sha256 in files.items():
        absolute = Path(os.path.abspath(path))  # noqa: PTH100
        if _is_settled(found := absolute.stat()):
            rows.append((str(absolute), *_identity(found), sha256))
    with _memory() as memory:
        memory.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", rows)


def bytes_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; the file is read, and nothing is remembered."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remember_source(path: Path, version: str | None, sha256: str = "") -> None:
    """Remember of which version of a file elsewhere a file here is a copy; None forgets it."""
    key = os.path.abspath(path)  # noqa: PTH100
    with _memory() as memory:
        if version is None:
            memory.execute("DELETE FROM copy WHERE path = ?", (key,))
        else:
            memory.execute("INSERT OR REPLACE INTO copy VALUES (?, ?, ?)", (key, version, sha256))


def remembered_source(path: Path) -> tuple[str, str] | None:
    """Return the version that a file here is a copy of, and its SHA-256; None if that is not known."""
    with _memory() as memory:
        known = memory.execute(
            "SELECT version, sha256 FROM copy WHERE path = ?",
            (os.path.abspath(path),),  # noqa: PTH100
        ).fetchone()
    return (str(known[0]), str(known[1])) if known else None


def table_hash(path: Path) -> str:
    """Return a hash of the columns and cells of a Parquet file, in hexadecimal.

    Row groups, compression, encoding and metadata make no difference.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read, or is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [_ColumnHash(field) for field in file.schema_arrow]
            for batch in file.iter_batches(_BATCH_ROWS):
                for column, cells in zip(columns, batch.columns, strict=True):
                    column.update(cells)
    except pa.ArrowInvalid as error:
        raise OSError(f"{path} cannot be read as Parquet: {error}") from error
    return value_hash([column.summary() for column in columns])


def value_hash(value: Any) -> str:
    """Return a hash of plain dicts, lists, strings, numbers, booleans and None, in hexadecimal.

    The order of a dict's keys makes no difference; a tuple counts as a list.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class _ColumnHash:
    """The hash of one column; its cells can be added in pieces of any size."""

    def __init__(self, field: "pa.Field") -> None:
        import pyarrow as pa

        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        self._is_text = not (pa.types.is_integer(kind) or pa.types.is_floating(kind))
        self._type = pa.large_string() if self._is_text else kind
        self._name, self._kind = field.name, str(kind).removeprefix("large_")
        self._missing, self._lengths, self._values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()

    def update(self, cells: "pa.Array") -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._missing.update(_values_of(pc.cast(pc.is_null(cells), pa.uint8())))
        if self._is_text:
            text = pc.fill_null(pc.cast(cells, self._type), "")
            self._lengths.update(_values_of(pc.cast(pc.binary_length(text), pa.int64())))
            self._values.update(_characters_of(text))
        else:
            self._values.update(_values_of(pc.fill_null(pc.cast(cells, self._type), 0)))

    def summary(self) -> list[str]:
        return [self._name, self._kind, *(part.hexdigest() for part in (self._missing, self._lengths, self._values))]


def _characters_of(text: "pa.Array") -> bytes | memoryview:
    """Return the bytes of large strings, one after the other without gaps."""
    import numpy as np

    _, offsets, characters = text.buffers()
    if characters is None:
        return b""
    ends = np.frombuffer(offsets, np.int64, len(text) + 1, 8 * text.offset)
    return memoryview(characters)[ends[0] : ends[-1]]


def _values_of(cells: "pa.Array") -> bytes:
    """Return the bytes of numbers without gaps."""
    content: bytes = cells.to_numpy(zero_copy_only=False).tobytes()
    return content


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _is_settled(found: os.stat_result) -> bool:
    """Return whether any later change of the file would change its modification time."""
    tick = _TICK_SECONDS if found.st_mtime_ns % 1_000_000_000 else _COARSE_TICK_SECONDS
    return abs(time.time() - found.st_mtime) >= tick


def _remember(path: Path, found: os.stat_result, digest: str) -> None:
    if not _is_settled(found):
        return
    with _memory() as memory:
        memory.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", (str(path), *_identity(found), digest))


@contextlib.contextmanager
def _memory() -> Iterator[sqlite3.Connection]:
    """Open the memory of hashes for a block. It can be deleted at any time: files that it lacks are hashed again."""
    path = settings.make_irp_home() / _MEMORY
    with contextlib.closing(_opened(path)) as memory, memory:
        yield memory


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _with_table(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise OSError(f"{path} cannot be used: {error}") from error
        path.unlink(missing_ok=True)  # a power cut may have damaged it
        return _with_table(path)


def _with_table(path: Path) -> sqlite3.Connection:
    memory = sqlite3.connect(path, timeout=_LOCK_SECONDS)
    try:
        memory.execute("PRAGMA synchronous = OFF")
        memory.execute(
            "CREATE TABLE IF NOT EXISTS file"
            " (path TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, inode INTEGER, sha256 TEXT)"
        )
        memory.execute("CREATE TABLE IF NOT EXISTS copy (path TEXT PRIMARY KEY, version TEXT, sha256 TEXT)")
    except BaseException:
        memory.close()
        raise
    return memory
