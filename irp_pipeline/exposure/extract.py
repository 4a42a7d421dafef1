"""Extracting an OED table, from a file or a database, to Parquet.

Rows stream through in batches: memory does not grow with the table. The file appears under its name only when it is
complete and on disk. :mod:`irp_pipeline.exposure.oed` describes its columns.
"""

import hashlib
import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.conversion import conform, schema_of
from irp_pipeline.exposure.readers.opening import open_source
from irp_pipeline.exposure.readers.sources import Reader, Source
from irp_pipeline.exposure.totals.control_total import ControlTotals
from irp_pipeline.files import appearing_when_whole

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP_ROWS = 2**17
_ROW_GROUP_BYTES = 32 * 2**20
# A column whose dictionary in a row group would be larger is written without one. With the default limit of 1 MB,
# dictionaries that are then given up doubled the time of writing and made the file larger.
_DICTIONARY_BYTES = 2**16
_HASHED_BYTES = 2**20


@dataclass(frozen=True)
class Extract:
    """An extracted table.

    Attributes:
        table: which OED table it is.
        path: the Parquet file.
        rows: how many records it has.
        columns: their names, as OED spells them, in the order of the source.
        sha256: the SHA-256 of the records as they are written, in hexadecimal. The same rows in the same order always
            give the same value, whatever the source.
        seconds: how long it took.
        source: where it came from, in words.
        reading: how the source was read: for a CSV file the encoding, delimiter and decimal signs that were stated or
            found, and how many lines and records it has.
        source_totals: the control totals of the source at that moment, if they were requested.
    """

    table: OedTable
    path: Path
    rows: int
    columns: tuple[str, ...]
    sha256: str
    seconds: float
    source: str
    reading: str = ""
    source_totals: ControlTotals | None = None


def extract(
    source: Source,
    table: OedTable,
    path: Path,
    *,
    progress: Callable[[int], None] | None = None,
    with_totals: bool = False,
) -> Extract:
    """Copy an OED table to a Parquet file.

    Args:
        source: the file or the query.
        table: which OED table it is.
        path: the Parquet file to write; an existing file is replaced if all goes well.
        progress: called now and then with the number of rows so far, in this thread.
        with_totals: also compute the control totals of the source, at the same moment as the rows. Only a
            location table has control totals.

    Raises:
        ExposureError: the source cannot be read, has no rows, or has a value that does not fit its column; or the
            file cannot be written. Then no file is left.
        ValueError: totals are requested for a table other than the locations.
    """
    if with_totals and table is not OedTable.LOCATION:
        raise ValueError(f"only a location table has control totals, not {table.value}")
    started = time.perf_counter()
    try:
        with open_source(source, table) as reader, appearing_when_whole(path) as partial:
            rows = _write(reader, partial, progress or (lambda rows: None))
            if rows == 0:
                raise ExposureError(f"{reader.description} has no {table.value} record at all")
            totals = reader.totals() if with_totals else None
            sha256 = _hash_of_records(partial)
            columns = tuple(column.name for column in reader.columns)
            seconds = time.perf_counter() - started
            result = Extract(table, path, rows, columns, sha256, seconds, reader.description, reader.reading, totals)
    except OSError as error:  # the readers have turned theirs into an ExposureError
        raise ExposureError(f"{path} cannot be written: {error}") from error
    return result


def _write(reader: Reader, path: Path, progress: Callable[[int], None]) -> int:
    """Write all rows of a reader; one thread reads and converts while another thread writes."""
    import pyarrow.parquet as pq

    rows = 0
    schema = schema_of(reader.columns)
    with (
        pq.ParquetWriter(path, schema, compression="zstd", dictionary_pagesize_limit=_DICTIONARY_BYTES) as writer,
        ThreadPoolExecutor(1, "extract-writer") as pool,
        closing(_row_groups(reader)) as row_groups,
    ):
        writing: Future[None] | None = None
        for row_group in row_groups:
            if writing is not None:
                writing.result()
            rows += row_group.num_rows
            writing = pool.submit(writer.write_table, row_group, row_group.num_rows)
            progress(rows)
        if writing is not None:
            writing.result()
        if rows:
            writer.add_key_value_metadata(reader.places.to_metadata())
    return rows


def _hash_of_records(path: Path) -> str:
    """Return the SHA-256 of a Parquet file without its footer, which says where the records come from."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        remaining = file.tell() - int.from_bytes(file.read(4), "little")
        file.seek(0)
        while remaining and (block := file.read(min(remaining, _HASHED_BYTES))):
            digest.update(block)
            remaining -= len(block)
    return digest.hexdigest()


def _row_groups(reader: Reader) -> "Generator[pa.Table]":
    """Yield the rows of a reader, in the types of their columns, as tables of a good size for a row group."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    record = 0
    with closing(reader.batches()) as batches:
        for batch in batches:
            waiting.append(conform(batch, reader.columns, record, reader.locate))
            record += batch.num_rows
            enough = sum(part.num_rows for part in waiting) >= _ROW_GROUP_ROWS
            if enough or sum(part.nbytes for part in waiting) >= _ROW_GROUP_BYTES:
                yield pa.Table.from_batches(waiting)
                waiting = []
    if record and waiting:
        yield pa.Table.from_batches(waiting)
