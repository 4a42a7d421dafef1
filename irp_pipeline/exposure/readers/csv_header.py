"""The header of a CSV file: the names of its columns, the delimiter, and what users state about the file."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import OedTable, oed_columns
from irp_pipeline.exposure.readers.text_file import BLOCK_BYTES, IN_WORKBOOK, Text

if TYPE_CHECKING:
    pass

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_MOST_HEADER_CHARACTERS = 2**20
_SEPARATOR_LINE = re.compile(r"sep=(?P<delimiter>.)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class CsvOptions:
    """What the user states about a CSV file; None means to detect it.

    Attributes:
        encoding: of its characters.
        delimiter: the sign between its cells: one of :data:`DELIMITERS`, as the sign or by its name.
        decimal: the decimal sign of its numbers, ``.`` or ``,``.
        stated_in: where users state it, for messages, such as
            :data:`~irp_pipeline.exposure.readers.text_file.IN_WORKBOOK`.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    stated_in: str = IN_WORKBOOK

    def where(self, name: str) -> str:
        """Return where users state one of them, such as ``the column decimal of sheet Portfolios``."""
        return self.stated_in.format(name)

    @property
    def is_stated(self) -> bool:
        """Whether anything is stated."""
        return any((self.encoding, self.delimiter, self.decimal))


@dataclass(frozen=True)
class Header:
    """The header: the part of the file before the first record.

    Attributes:
        names: the names of the columns.
        delimiter: the sign between cells.
        lines: how many lines come before the first record.
        bytes: how long they are in UTF-8.
    """

    names: list[str]
    delimiter: str
    lines: int
    bytes: int


def read_header(text: Text, table: OedTable, options: CsvOptions) -> Header:
    """Find the names of the columns and the delimiter."""
    names = {name: sign for sign, name in DELIMITERS.items()} | {sign: sign for sign in DELIMITERS} | {"\\t": "\t"}
    delimiter = stated_name(options.delimiter, names, options.where("delimiter"))
    lines = size = 0
    with closing(text.lines()) as file:
        while True:
            line = file.readline(_MOST_HEADER_CHARACTERS)
            lines, size = lines + 1, size + len(line.encode())
            if len(line) == _MOST_HEADER_CHARACTERS:
                raise ExposureError(
                    f"{text.name}, line {lines}: has more than {_MOST_HEADER_CHARACTERS:,} characters and no line "
                    "break; the first line must hold the names of the columns. Perhaps this is not a CSV file"
                )
            if separator := _SEPARATOR_LINE.fullmatch(line):
                delimiter = delimiter or separator["delimiter"]
                if delimiter not in DELIMITERS:
                    raise ExposureError(f"{text.name}, line {lines}: {delimiter!r} cannot separate cells here")
            elif line.strip():
                break
            elif not line:
                raise ExposureError(f"{text.path}: the first row is empty; it must hold the names of the columns")
        while line.count('"') % 2 and len(line) < _MOST_HEADER_CHARACTERS and (more := file.readline(BLOCK_BYTES)):
            line, lines, size = line + more, lines + 1, size + len(more.encode())
    if "\0" in line:
        raise ExposureError(
            f"{text.name}, line {lines}: contains NUL characters, which are not text. If it is utf-16-le or utf-16-be, "
            f"write that in {options.where('encoding')}"
        )
    delimiter = delimiter or _found_delimiter(line, table, text.name, options.where("delimiter"))
    try:
        cells = next(csv.reader(_lines(line), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ExposureError(f"{text.name}, line {lines}: the names of the columns cannot be read: {error}") from error
    return Header(cells, delimiter, lines, size)


def _found_delimiter(header: str, table: OedTable, name: str, where: str) -> str:
    """Return the delimiter that splits a header into the most OED names, or else into the most cells."""
    scores: dict[str, tuple[int, int]] = {}
    for delimiter in DELIMITERS:
        cells = next(csv.reader(_lines(header), delimiter=delimiter))
        unique = {cell.strip().lower(): cell for cell in cells if cell.strip()}
        known = sum(column.is_known for column in oed_columns(table, unique.values(), name))
        scores[delimiter] = (known, len(cells))
    best = max(scores, key=lambda delimiter: scores[delimiter])
    rivals = [delimiter for delimiter, score in scores.items() if score[0] == scores[best][0] > 0 and score[1] > 1]
    if len(rivals) > 1:
        readings = " or ".join(f"{DELIMITERS[rival]} ({scores[rival][1]} columns)" for rival in rivals)
        raise ExposureError(f"{name}, line 1: the delimiter can be {readings}: write which one it is in {where}")
    return best


def stated_name(value: str | None, known: dict[str, str], where: str) -> str | None:
    if value is None:
        return None
    try:
        return known[value.lower()]
    except KeyError:
        words = ", ".join(repr(word) for word in known)
        raise ExposureError(f"{value!r} in {where} is none of {words}") from None


def _lines(text: str) -> Iterator[str]:
    """Return the lines of a text as in CSV. ``str.splitlines`` also splits at other characters, such as U+2028."""
    return io.StringIO(text, newline="")
