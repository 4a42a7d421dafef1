"""Reading OED files: CSV, compressed or not, and Parquet, in batches.

A CSV file's control totals are read by Python's own parser and not by pyarrow's, which does the extraction, so that
they are a second opinion. The first record is row 2 of a CSV file, as a spreadsheet shows it.
"""

import bz2
import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.control_total import (
    CONTROL_COLUMNS,
    MONEY_COLUMNS,
    MONEY_DIGITS,
    MONEY_PLACES,
    ControlTotal,
    TotalsAccumulator,
)
from irp_pipeline.exposure.conversion import NULL_TEXTS, conform
from irp_pipeline.exposure.oed import OedTable, oed_columns

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_CSV_SUFFIXES = (".csv", ".txt")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_COMPRESSED = (".gz", ".bz2", ".zip")
_DELIMITERS = ",;\t|"
_SMALLEST_AMOUNT = Decimal(1).scaleb(-MONEY_PLACES)

# pyarrow reads 32 blocks ahead.
_BLOCK_BYTES = 2**20
_PARQUET_BUFFER_BYTES = 2**20
_BATCH_ROWS = 50_000
_CONTROL_ROWS = 10_000


def open_file(path: Path, encoding: str, table: OedTable) -> "AbstractContextManager[CsvReader | ParquetReader]":
    """Open a file; its kind is told by the ending of its name.

    Raises:
        ExposureError: no such file, not one of the kinds, empty, or unreadable.
    """
    if not path.is_file():
        raise ExposureError(f"there is no file {path}")
    if path.suffix.lower() in _PARQUET_SUFFIXES:
        return _open_parquet(path, table)
    if path.suffix.lower() not in (*_CSV_SUFFIXES, *_COMPRESSED):
        raise ExposureError(
            f"{path}: not a kind of file that can be read here. Save it as CSV (.csv, or that in .gz, .bz2 or .zip) "
            "or as Parquet (.parquet)."
        )
    return nullcontext(CsvReader(path, encoding, table))


class CsvReader:
    """A CSV file; see :class:`irp_pipeline.exposure.sources.Reader`."""

    def __init__(self, path: Path, encoding: str, table: OedTable) -> None:
        self.description = path.name
        self._path = path
        self._encoding = encoding
        with self._errors(), closing(self._text()) as text:
            header = text.readline()
        if not header.strip():
            raise ExposureError(f"{path}: the first row is empty; it must hold the names of the columns")
        self._delimiter = max(_DELIMITERS, key=header.count)
        names = next(csv.reader([header], delimiter=self._delimiter))
        self.columns = oed_columns(table, names, self.description)

    def batches(self) -> "Generator[pa.RecordBatch]":
        """The rows, all cells as text."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        names = [column.source_name for column in self.columns]
        misfits: list[arrow_csv.InvalidRow] = []

        def stop(row: "arrow_csv.InvalidRow") -> str:
            misfits.append(row)
            return "error"

        last = None
        with self._errors(), closing(_open_bytes(self._path)) as binary:
            try:
                reader = arrow_csv.open_csv(
                    binary,
                    # One thread, so that a malformed row is known by its number.
                    arrow_csv.ReadOptions(
                        use_threads=False,
                        block_size=_BLOCK_BYTES,
                        skip_rows=1,
                        column_names=names,
                        encoding=self._encoding,
                    ),
                    arrow_csv.ParseOptions(
                        delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=stop
                    ),
                    arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(names, pa.string()),
                        null_values=NULL_TEXTS,
                        strings_can_be_null=True,
                    ),
                )
                for batch in reader:
                    last = batch if batch.num_rows else last
                    yield batch
            except pa.ArrowInvalid as error:
                raise self._malformed(str(error), misfits) from error
        if last is not None:
            self._check_closing_quote(last)

    def locate(self, record: int) -> str:
        """Say where a record is: in the row that a spreadsheet shows."""
        return f"{self.description}, row {record + 2}"

    def totals(self) -> tuple[ControlTotal, ...]:
        """The control totals, by a second reading of the file with another parser."""
        positions = {
            column.name: position for position, column in enumerate(self.columns) if column.name in CONTROL_COLUMNS
        }
        accumulator, record = TotalsAccumulator(), 0
        with self._errors(), closing(self._text()) as text:
            reader = csv.reader(text, delimiter=self._delimiter, strict=True)
            next(reader)
            rows = filter(None, reader)  # pyarrow passes over empty lines too
            try:
                while chunk := list(islice(rows, _CONTROL_ROWS)):
                    accumulator.add(self._control_batch(chunk, positions, record))
                    record += len(chunk)
            except csv.Error as error:
                raise ExposureError(f"{self.description}, line {reader.line_num}: {error}") from error
        return accumulator.totals()

    def _control_batch(self, rows: list[list[str]], positions: dict[str, int], first_record: int) -> "pa.RecordBatch":
        import pyarrow as pa
        import pyarrow.compute as pc

        if set(map(len, rows)) != {len(self.columns)}:
            number, cells = next((n, len(row)) for n, row in enumerate(rows) if len(row) != len(self.columns))
            raise ExposureError(self._wrong_length(self.locate(first_record + number), cells))
        if not positions:  # a batch without columns would have no rows
            return pa.RecordBatch.from_arrays([pa.nulls(len(rows), pa.string())], [CONTROL_COLUMNS[0]])
        arrays, nulls = [], pa.array(NULL_TEXTS)
        for name, position in positions.items():
            texts = pa.array([row[position] for row in rows], pa.string())
            texts = pc.if_else(pc.is_in(texts, nulls), pa.scalar(None, pa.string()), texts)
            arrays.append(self._decimals(texts, name, first_record) if name in MONEY_COLUMNS else texts)
        return pa.RecordBatch.from_arrays(arrays, list(positions))

    def _decimals(self, texts: "pa.Array", name: str, first_record: int) -> "pa.Array":
        import pyarrow as pa

        decimal_type = pa.decimal128(MONEY_DIGITS, MONEY_PLACES)
        try:
            return texts.cast(decimal_type)
        except pa.ArrowInvalid:  # blanks around it, more decimal places, or not a number
            pass
        amounts = []
        for number, text in enumerate(texts.to_pylist()):
            try:
                amounts.append(None if text is None else Decimal(text).quantize(_SMALLEST_AMOUNT))
            except InvalidOperation as error:
                where = self.locate(first_record + number)
                raise ExposureError(f"{where}, column {name}: {text!r} is not a number") from error
        return pa.array(amounts, decimal_type)

    def _text(self) -> io.TextIOWrapper:
        encoding = "utf-8-sig" if self._encoding.lower().replace("_", "-") in ("utf-8", "utf8") else self._encoding
        return io.TextIOWrapper(_open_bytes(self._path), encoding, newline="")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:
            raise self._wrong_encoding() from error
        except LookupError as error:
            raise ExposureError(f"{self.description}: {error}") from error
        except (OSError, EOFError, zlib.error) as error:
            raise ExposureError(f"{self._path} cannot be read: {error}") from error

    def _malformed(self, message: str, misfits: "list[Any]") -> ExposureError:
        if misfits:
            # The parser counts the header as row 1.
            where = self.locate(misfits[0].number - 2) if misfits[0].number else self.description
            return ExposureError(self._wrong_length(where, misfits[0].actual_columns))
        if "UTF8" in message:
            return self._wrong_encoding()
        if "straddling" in message:
            return ExposureError(
                f"{self.description}: a row is longer than {_BLOCK_BYTES:,} bytes. Probably a quotation mark is opened "
                "and never closed."
            )
        return ExposureError(f"{self.description}: {message}")

    def _wrong_length(self, where: str, cells: int) -> str:
        return (
            f"{where}: {cells} cells, but the first row names {len(self.columns)} columns. A cell that holds "
            f"{self._delimiter!r} must stand in quotation marks."
        )

    def _wrong_encoding(self) -> ExposureError:
        with closing(_open_bytes(self._path)) as binary:
            for line, content in enumerate(binary, start=1):
                try:
                    content.decode(self._encoding)
                except UnicodeDecodeError:
                    return ExposureError(
                        f"{self.description}, line {line}: not {self._encoding} text. Save the file as 'CSV UTF-8', or "
                        "give its encoding, such as cp1252."
                    )
        return ExposureError(f"{self.description}: not {self._encoding} text")

    def _check_closing_quote(self, last: "pa.RecordBatch") -> None:
        """A quotation mark that is never closed makes one cell of the rest of the file, and pyarrow says nothing."""
        cell = last.column(last.num_columns - 1)[-1].as_py()
        if cell is None or "\n" not in cell:
            return
        with closing(_open_bytes(self._path)) as binary:
            quotes = sum(block.count(b'"') for block in iter(lambda: binary.read(_BLOCK_BYTES), b""))
        if quotes % 2:
            raise ExposureError(
                f"{self.description}: a quotation mark is opened and never closed, before {cell[:40]!r}"
            )


class ParquetReader:
    """A Parquet file; see :class:`irp_pipeline.exposure.sources.Reader`."""

    def __init__(self, file: "pq.ParquetFile", path: Path, table: OedTable) -> None:
        self.description = path.name
        self._path = path
        self._file = file
        self.columns = oed_columns(table, file.schema_arrow.names, self.description)

    def batches(self) -> "Generator[pa.RecordBatch]":
        """The rows."""
        return self._batches(None)

    def locate(self, record: int) -> str:
        """Say where a record is."""
        return f"{self.description}, record {record + 1}"

    def totals(self) -> tuple[ControlTotal, ...]:
        """The control totals, by a second reading of the columns they need."""
        columns = [column for column in self.columns if column.name in CONTROL_COLUMNS] or [self.columns[0]]
        accumulator, record = TotalsAccumulator(), 0
        for batch in self._batches([column.source_name for column in columns]):
            accumulator.add(conform(batch, columns, record, self.locate))
            record += batch.num_rows
        return accumulator.totals()

    def _batches(self, names: list[str] | None) -> "Generator[pa.RecordBatch]":
        with _parquet_errors(self._path):
            yield from self._file.iter_batches(_BATCH_ROWS, columns=names)


@contextmanager
def _open_parquet(path: Path, table: OedTable) -> Iterator[ParquetReader]:
    import pyarrow.parquet as pq

    with _parquet_errors(path):
        # Pages are read as they are needed, however large the row groups are.
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


def _open_bytes(path: Path) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    if suffix == ".bz2":
        return bz2.open(path)
    if suffix == ".zip":
        return _open_zip(path)
    return path.open("rb")


def _open_zip(path: Path) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ExposureError(f"{path} cannot be read: {error}") from error
    members = [member for member in archive.namelist() if not member.endswith("/")]
    if len(members) != 1:
        raise ExposureError(f"{path} must hold one CSV file, and holds {len(members)}")
    return archive.open(members[0])
