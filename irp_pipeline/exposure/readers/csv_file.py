"""Reading CSV files: the format is detected and reported, and a file that can be read in two ways is refused.

The whole file is checked before its first record is passed on. pyarrow reads the records. Python's own parser checks
the quotation marks, if there are any, and reads the control totals, so that they are a second opinion. Places are
lines of the file as an editor counts them.
"""

import csv
import re
import zlib
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import ColumnType, OedColumn, OedTable, oed_columns
from irp_pipeline.exposure.places import Places, counted
from irp_pipeline.exposure.readers.conversion import NULL_TEXTS, misfit
from irp_pipeline.exposure.readers.csv_header import DELIMITERS, CsvOptions, read_header, stated_name
from irp_pipeline.exposure.readers.numerals import SIGNS, DecimalSigns, described, with_point, with_points
from irp_pipeline.exposure.readers.text_file import BLOCK_BYTES, open_text
from irp_pipeline.exposure.totals.control_total import CONTROL_COLUMNS, ControlTotals, TotalsAccumulator

if TYPE_CHECKING:
    import pyarrow as pa


_MOST_CHARACTERS = csv.field_size_limit()
_CONTROL_ROWS = 10_000
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_LIKE_A_NUMBER = re.compile(r"[\s0-9.,eE+-]*")
# With fewer columns, the second line of an address looks like a record.
_FEWEST_COLUMNS_TO_TELL = 3


class CsvReader:
    """A CSV file; see :class:`irp_pipeline.exposure.readers.sources.Reader`."""

    def __init__(self, path: Path, options: CsvOptions, table: OedTable) -> None:
        self.description = path.name
        self._path = path
        with self._errors():
            self._text = open_text(path, options.encoding, options.stated_in)
            self._header = read_header(self._text, table, options)
            self.columns = oed_columns(table, self._header.names, self.description)
            names_nothing = not any(column.is_known for column in self.columns)
            if names_nothing and len(self.columns) == 1 and not options.is_stated:
                raise ExposureError(
                    f"{self.description}, line {self._header.lines}: must hold the names of the columns, but is "
                    f"{self._header.names[0][:40]!r}. Remove everything above them"
                )
            if names_nothing and options.is_stated:
                raise ExposureError(
                    f"{self.description}, line {self._header.lines}: names no column of OED, but begins with "
                    f"{self._header.names[0][:40]!r}. Correct {options.where('encoding')} or "
                    f"{options.where('delimiter')}"
                )
            self._lines, has_quotes = self._count()
            self._places: Places | None = None
            self._records: int | None = None
            if has_quotes:
                self._check_records()
            self._signs = self._decimal_signs(options, has_quotes)

    @property
    def places(self) -> Places:
        """Where the records are."""
        if self._places is None:
            with self._errors():
                self._check_records()
        assert self._places is not None  # noqa: S101 - for the type checker
        return self._places

    @property
    def reading(self) -> str:
        """How the file was read; complete after the reading."""
        records = f" holding {counted(self._records, 'record')}" if self._records is not None else ""
        return (
            f"{self._text.described()}, delimiter {DELIMITERS[self._header.delimiter]}, {described(self._signs)}, "
            f"{counted(self._lines, 'line')}{records}"
        )

    def batches(self) -> "Generator[pa.RecordBatch]":
        """Yield the rows, with all cells as text and numbers with a decimal point."""
        import pyarrow as pa

        records = 0
        for batch in self._arrow_batches([column.source_name for column in self.columns]):
            records += batch.num_rows
            cells = [
                with_points(array, self._signs[column.name]) if column.name in self._signs else array
                for column, array in zip(self.columns, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(cells, schema=batch.schema)
        if self._records is None and self._lines == self._header.lines + records:
            self._records = records
            self._places = Places(self.description, "line", self._header.lines + 1)
        if self._places is None:
            with self._errors():
                self._check_records()
        if records != self._records:
            raise ExposureError(
                f"{self.description}: one parser read {counted(self._lines, 'line')} as {counted(records, 'record')}, "
                f"another one as {self._records:,}; there may be line breaks or quotation marks inside cells. Save "
                "the file again as CSV"
            )

    def locate(self, record: int) -> str:
        """Return the line in which a record begins."""
        return self.places.locate(record)

    def totals(self) -> ControlTotals:
        """Return the control totals, by reading the file a second time with another parser."""
        positions = {column: position for position, column in enumerate(self.columns) if column.name in CONTROL_COLUMNS}
        accumulator, record = TotalsAccumulator(), 0
        with self._errors(), closing(self._text.lines(self._header.bytes)) as lines:
            rows = (row for row in csv.reader(lines, delimiter=self._header.delimiter) if not _is_blank(row))
            try:
                while chunk := list(islice(rows, _CONTROL_ROWS)):
                    accumulator.add(self._control_batch(chunk, positions, record))
                    record += len(chunk)
            except csv.Error as error:  # the longest cell that Python reads is shorter than pyarrow's
                raise ExposureError(f"{self.description}, after record {record}: {error}") from error
        return accumulator.totals()

    def _control_batch(
        self, rows: list[list[str]], positions: dict[OedColumn, int], first_record: int
    ) -> "pa.RecordBatch":
        import pyarrow as pa

        number, cells = next(
            ((number, len(row)) for number, row in enumerate(rows) if len(row) != len(self.columns)), (0, None)
        )
        if cells is not None:
            raise ExposureError(self._wrong_length(self.locate(first_record + number), cells))
        if not positions:  # a batch without columns would have no rows
            return pa.RecordBatch.from_arrays([pa.nulls(len(rows), pa.string())], [CONTROL_COLUMNS[0]])
        nulls = frozenset(NULL_TEXTS)
        arrays: list[pa.Array] = []
        for column, position in positions.items():
            texts = [None if (text := row[position]) in nulls else text for row in rows]
            if column.type is ColumnType.TEXT:
                arrays.append(pa.array(texts, pa.string()))
            else:
                arrays.append(self._amounts(texts, column, first_record))
        return pa.RecordBatch.from_arrays(arrays, [column.name for column in positions])

    def _amounts(self, texts: list[str | None], column: OedColumn, first_record: int) -> "pa.Array":
        import pyarrow as pa

        sign = self._signs[column.name]
        if sign == "." and (plain := _plain_amounts(texts)) is not None:
            return plain
        amounts: list[float | None] = []
        for number, text in enumerate(texts):
            try:
                blank = text is None or not text.strip() or text.strip() in NULL_TEXTS
                amounts.append(None if blank or text is None else float(with_point(text, sign)))
            except ValueError as error:
                raise ExposureError(misfit(self.locate(first_record + number), column, text)) from error
        return pa.array(amounts, pa.float64())

    def _arrow_batches(self, names: Sequence[str]) -> "Generator[pa.RecordBatch]":
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        all_names = [column.source_name for column in self.columns]

        def judge(row: "arrow_csv.InvalidRow") -> str:
            return "error" if row.text.strip() else "skip"

        with self._errors(), closing(self._text.binary(self._header.bytes)) as binary:
            if not binary.peek(1):
                return
            try:
                reader = arrow_csv.open_csv(
                    binary,
                    arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=all_names),
                    arrow_csv.ParseOptions(
                        delimiter=self._header.delimiter, newlines_in_values=True, invalid_row_handler=judge
                    ),
                    arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(all_names, pa.string()),
                        include_columns=names,
                        null_values=NULL_TEXTS,
                        strings_can_be_null=True,
                    ),
                )
                yield from reader
            except pa.ArrowInvalid as error:
                self._check_records()  # says where, and why
                raise ExposureError(f"{self.description}: {' '.join(str(error).split())}") from error

    def _count(self) -> tuple[int, bool]:
        """Return how many lines the file has, and whether it has any quotation mark.

        Raises:
            ExposureError: it contains a NUL.
        """
        lines, quotes, last, before = 0, False, b"", b""
        for block in self._text.blocks():
            if (position := block.find(b"\0")) >= 0:
                raise self._with_nul(lines + _line_breaks(block[:position], before) + 1)
            lines += _line_breaks(block, before)
            quotes = quotes or b'"' in block
            last, before = block[-1:], block[-1:]
        return lines + (last not in (b"\n", b"\r", b"")), quotes

    def _with_nul(self, number: int) -> ExposureError:
        line = self._text.line(number)
        cell = line[: line.find("\0")].count(self._header.delimiter)
        column = f", column {self.columns[cell].name}" if cell < len(self.columns) else ""
        return ExposureError(
            f"{self.description}, line {number}{column}: contains a NUL character, which is not text. The file may be "
            "damaged, or not be CSV: save it again"
        )

    def _check_records(self) -> None:
        """Go through the records with Python's parser; note where each is, and refuse malformed records.

        Raises:
            ExposureError: a record has too many or too few cells, or a quotation mark swallows other records.
        """
        jumps, numbers = array("q"), array("q")
        records, last = 0, self._header.lines
        expected = first = last + 1
        with closing(self._text.lines(self._header.bytes)) as lines:
            rows = csv.reader(lines, delimiter=self._header.delimiter, strict=True)
            while True:
                try:
                    row = next(rows, None)
                except csv.Error as error:
                    raise self._stray_quote(last + 1, self._header.lines + rows.line_num, str(error)) from error
                if row is None:
                    break
                line, last = last + 1, self._header.lines + rows.line_num
                if _is_blank(row) and len(self.columns) != len(row):
                    continue
                if len(row) != len(self.columns):
                    raise ExposureError(self._wrong_length(self._span(line, last), len(row)))
                if last > line:
                    self._check_quoted_lines(row, line, last)
                if line != expected:
                    jumps.append(records)
                    numbers.append(line)
                records, expected = records + 1, line + 1
        self._records = records
        self._places = Places(self.description, "line", first, jumps, numbers)

    def _span(self, first: int, last: int) -> str:
        return f"{self.description}, line{f's {first} to {last}' if last > first else f' {first}'}"

    def _check_quoted_lines(self, row: list[str], first: int, last: int) -> None:
        """Refuse a cell that contains whole records: its quotation marks do not belong together."""
        for position, cell in enumerate(row):
            if self._swallows(row, position, _LINE_BREAK.split(cell)):
                raise ExposureError(
                    f"{self._span(first, last)}, column {self.columns[position].name}: a quotation mark in line "
                    f"{first} and one in line {last} make one cell of {last - first + 1:,} lines, which look like "
                    "separate records. Remove both marks, or double them if they belong there"
                )

    def _swallows(self, row: list[str], position: int, lines: list[str]) -> bool:
        if len(lines) == 1 or len(self.columns) < _FEWEST_COLUMNS_TO_TELL:
            return False
        delimiter = self._header.delimiter
        first = [*row[:position], *lines[0].split(delimiter)]
        last = [*lines[-1].split(delimiter), *row[position + 1 :]]
        within = [line.split(delimiter) for line in lines[1:-1]]
        return any(map(self._looks_like_record, within)) or all(map(self._looks_like_record, (first, last)))

    def _looks_like_record(self, cells: list[str]) -> bool:
        return len(cells) == len(self.columns) and all(
            column.type is ColumnType.TEXT or cell in NULL_TEXTS or _LIKE_A_NUMBER.fullmatch(cell)
            for column, cell in zip(self.columns, cells, strict=True)
        )

    def _stray_quote(self, first: int, last: int, reason: str) -> ExposureError:
        line = self._text.line(first)
        cell = _cell_with_stray_quote(line, self._header.delimiter)
        column = f", column {self.columns[cell].name}" if cell < len(self.columns) else ""
        if "limit" in reason and '"' not in line:
            return ExposureError(
                f"{self.description}, line {first}: a cell has more characters than {_MOST_CHARACTERS:,}"
            )
        if "limit" in reason or "end of data" in reason:
            return ExposureError(
                f"{self.description}, line {first}{column}: a quotation mark is opened and never closed, so it "
                f"swallows everything from line {first + 1} on: {self._text.line(first + 1).strip()[:40]!r}. "
                "Remove it, or double it if it belongs there"
            )
        return ExposureError(
            f"{self._span(first, last)}{column}: a quotation mark is opened in line {first}, and text follows the one "
            f"that closes it in line {last}. Remove the marks, or double those inside the cell"
        )

    def _wrong_length(self, where: str, cells: int) -> str:
        delimiter = self._header.delimiter
        return (
            f"{where}: {counted(cells, 'cell')}, but the first row names {counted(len(self.columns), 'column')}. A "
            f"cell that contains {delimiter!r} must be in quotation marks, and a line break must not be outside them"
        )

    def _decimal_signs(self, options: CsvOptions, has_quotes: bool) -> dict[str, str]:
        numbers = [column for column in self.columns if column.type is not ColumnType.TEXT]
        signs = {sign: sign for sign in SIGNS} | {"point": ".", "comma": ","}
        decimal = stated_name(options.decimal, signs, options.where("decimal"))
        if not numbers or (self._header.delimiter == "," and not has_quotes and decimal != ","):
            return dict.fromkeys((column.name for column in numbers), ".")  # no cell can contain a comma
        found = DecimalSigns(self.columns, self._header.delimiter, decimal, options.where("decimal"))
        record = 0
        for batch in self._arrow_batches([column.source_name for column in numbers]):
            found.add(batch, record)
            record += batch.num_rows
        return found.signs(self.locate)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            raise ExposureError(f"{self._path} cannot be read: {error}") from error


def _cell_with_stray_quote(line: str, delimiter: str) -> int:
    """Return the position of the first cell whose quotation marks do not enclose the whole cell."""
    cell = 0
    rest = line
    while rest:
        if rest.startswith('"'):
            quoted = re.match(r'"(?:[^"]|"")*"', rest)
            if quoted is None:
                return cell
            rest = rest[quoted.end() :]
            if rest.strip("\r\n") and not rest.startswith(delimiter):
                return cell
        _, separator, rest = rest.partition(delimiter)
        cell += bool(separator)
    return cell


def _plain_amounts(texts: list[str | None]) -> "pa.Array | None":
    """Return the amounts if all cells are plain numbers or empty, as in most columns; else None."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        amounts = pa.array([None if text is None else float(text) for text in texts], pa.float64())
    except ValueError:
        return None
    return amounts if pc.all(pc.is_finite(amounts)).as_py() is not False else None


def _is_blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


def _line_breaks(block: bytes, before: bytes) -> int:
    """Return how many line breaks end in a block; ``before`` is the byte before it."""
    if b"\r" not in block and before != b"\r":
        return block.count(b"\n")
    pairs = block.count(b"\r\n") + (before == b"\r" and block.startswith(b"\n"))
    return block.count(b"\n") + block.count(b"\r") - pairs
