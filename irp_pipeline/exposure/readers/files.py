"""Opening files with OED tables: CSV, compressed or not, and Parquet. This module also reads Parquet."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedColumn, OedTable, oed_columns
from irp_pipeline.exposure.places import Places, counted
from irp_pipeline.exposure.readers.compressed import COMPRESSED_SUFFIXES
from irp_pipeline.exposure.readers.conversion import conform
from irp_pipeline.exposure.readers.csv_file import CsvReader
from irp_pipeline.exposure.readers.csv_header import CsvOptions
from irp_pipeline.exposure.readers.numerals import first_unclear, unclear
from irp_pipeline.exposure.totals.control_total import CONTROL_COLUMNS, ControlTotals, TotalsAccumulator

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_CSV_SUFFIXES = (".csv", ".txt", ".tsv")
_PARQUET_SUFFIXES = (".parquet", ".pq")

_PARQUET_BUFFER_BYTES = 2**20
_BATCH_ROWS = 50_000


def open_file(path: Path, options: CsvOptions, table: OedTable) -> "AbstractContextManager[CsvReader | ParquetReader]":
    """Open a file; the suffix of its name gives its kind.

    Raises:
        ExposureError: the file does not exist, is of another kind, is empty, or cannot be read.
    """
    if not path.is_file():
        raise ExposureError(f"there is no file {path}")
    if path.suffix.lower() in _PARQUET_SUFFIXES:
        return _open_parquet(path, table)
    if path.suffix.lower() not in (*_CSV_SUFFIXES, *COMPRESSED_SUFFIXES):
        raise ExposureError(
            f"{path}: this kind of file cannot be read. Save it as CSV (.csv, or compressed as .gz, .bz2 or .zip) "
            "or as Parquet (.parquet)."
        )
    return nullcontext(CsvReader(path, options, table))


class ParquetReader:
    """A Parquet file; see :class:`irp_pipeline.exposure.readers.sources.Reader`."""

    def __init__(self, file: "pq.ParquetFile", path: Path, table: OedTable) -> None:
        self.description = path.name
        self._path = path
        self._file = file
        self.columns = oed_columns(table, file.schema_arrow.names, self.description)
        # An extract knows where its records were in the user's source.
        self.places = Places.from_metadata(file.metadata.metadata) or Places(self.description)

    @property
    def reading(self) -> str:
        """How the file was read."""
        return f"Parquet, {counted(self._file.metadata.num_rows, 'record')}"

    def batches(self) -> "Generator[pa.RecordBatch]":
        """The rows."""
        return self._batches(self.columns)

    def locate(self, record: int) -> str:
        """Return where a record is."""
        return self.places.locate(record)

    def totals(self) -> ControlTotals:
        """Return the control totals, by reading the columns that they need a second time."""
        columns = [column for column in self.columns if column.name in CONTROL_COLUMNS] or [self.columns[0]]
        accumulator, record = TotalsAccumulator(), 0
        for batch in self._batches(columns):
            accumulator.add(conform(batch, columns, record, self.locate))
            record += batch.num_rows
        return accumulator.totals()

    def _batches(self, columns: Sequence[OedColumn]) -> "Generator[pa.RecordBatch]":
        record = 0
        with _parquet_errors(self._path):
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=[column.source_name for column in columns]):
                for column, cells in zip(columns, batch.columns, strict=True):
                    if (position := first_unclear(cells, column)) is not None:
                        raise unclear(self.locate(record + position), column, cells[position].as_py())
                record += batch.num_rows
                yield batch


@contextmanager
def _open_parquet(path: Path, table: OedTable) -> Iterator[ParquetReader]:
    import pyarrow.parquet as pq

    with _parquet_errors(path):
        # Pages are read when they are needed, however large the row groups are.
        file = pq.ParquetFile(path, buffer_size=_PARQUET_BUFFER_BYTES, pre_buffer=False)
    with file:
        yield ParquetReader(file, path, table)


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ExposureError(f"{path} cannot be read as Parquet: {error}") from error
