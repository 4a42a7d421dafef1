"""How numbers are written in a text file: which sign is the decimal sign, and which one separates thousands.

There is only one way to read ``1234.5``, ``1.234.567`` or ``52,1``. ``850.000`` can be 850 or 850,000. These rules
decide, in this order: a reading that is impossible in the column is out (a latitude is not 52,123, a number of
buildings is not 1.25); the other cells of the same column; the sign that the user states; and in a file delimited by
commas a point is a decimal point, since decimal commas come with another delimiter. If no rule decides, the file is
refused, and the message shows both readings. Other columns of the same file do not count: programs that write amounts
with separators write coordinates without them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import ColumnType, OedColumn

if TYPE_CHECKING:
    import pyarrow as pa

SIGNS = (".", ",")

_GROUPS = "[+-]?[1-9][0-9]{{0,2}}({thousands}[0-9]{{3}})+({decimal}[0-9]*)?"
_PLAIN = "[+-]?[0-9]*{decimal}[0-9]*([eE][+-]?[0-9]+)?"


def _pattern(decimal: str, thousands: str) -> str:
    groups = _GROUPS.format(decimal=decimal, thousands=thousands)
    return rf"^\s*({_PLAIN.format(decimal=decimal)}|{groups})\s*$"


# Cells that can be read with the point, or with the comma, as the decimal sign; plain digits match neither.
_READABLE = {".": _pattern("[.]", ","), ",": _pattern(",", "[.]")}
_UNCLEAR = {sign: rf"^\s*[+-]?[1-9][0-9]{{0,2}}[{sign}][0-9]{{3}}\s*$" for sign in SIGNS}
_UNCLEAR_TEXT = re.compile(_UNCLEAR["."])
_WHOLE = r"[.,]000\s*$"
_SMALLEST_WITH_THOUSANDS = 1000


def other(sign: str) -> str:
    """Return the sign that separates thousands if ``sign`` is the decimal sign."""
    return "," if sign == "." else "."


@dataclass
class _Seen:
    """The first cells of a column that help to decide, each with the position of its record.

    Attributes:
        of_sign: by decimal sign, the cell that can be read only with this sign.
        unclear: by the sign in it, the cell that can be read in two ways.
    """

    of_sign: dict[str, tuple[int, str]] = field(default_factory=dict)
    unclear: dict[str, tuple[int, str]] = field(default_factory=dict)


class DecimalSigns:
    """Finds the decimal sign of each column of numbers.

    Args:
        columns: the columns of the file.
        delimiter: the sign between its cells.
        stated: the decimal sign that the user states, if any.
        where: where users state it, for messages.
    """

    def __init__(self, columns: Sequence[OedColumn], delimiter: str, stated: str | None, where: str) -> None:
        self._columns = [column for column in columns if column.type is not ColumnType.TEXT]
        self._seen = {column.name: _Seen() for column in self._columns}
        self._delimiter = delimiter
        self._stated = stated
        self._where = where

    def add(self, batch: "pa.RecordBatch", first_record: int) -> None:
        """Look at a batch in which the columns of numbers are text, with the source's names."""
        for column in self._columns:
            self._look(column, batch.column(column.source_name), first_record)

    def signs(self, locate: Callable[[int], str]) -> dict[str, str]:
        """Return the decimal sign of each column.

        Args:
            locate: returns where a record is.

        Raises:
            ExposureError: the cells of a column contradict each other or the user, or can be read in two ways.
        """
        commas = any("," in seen.of_sign for seen in self._seen.values())
        return {column.name: self._decide(column, commas, locate) for column in self._columns}

    def _look(self, column: OedColumn, cells: "pa.Array", first_record: int) -> None:
        import pyarrow.compute as pc

        seen = self._seen[column.name]
        for sign in SIGNS:
            if not pc.any(pc.match_substring(cells, sign)).as_py():
                continue
            unclear = pc.match_substring_regex(cells, _UNCLEAR[sign])
            if column.largest is not None and column.largest < _SMALLEST_WITH_THOUSANDS:
                _note(seen.of_sign, sign, cells, unclear, first_record)
            elif column.type is not ColumnType.NUMBER:
                whole = pc.match_substring_regex(cells, _WHOLE)
                _note(seen.unclear, sign, cells, pc.and_(unclear, whole), first_record)
                _note(seen.of_sign, other(sign), cells, pc.and_not(unclear, whole), first_record)
            else:
                _note(seen.unclear, sign, cells, unclear, first_record)
            for decimal in SIGNS:
                clear = pc.and_not(pc.match_substring_regex(cells, _READABLE[decimal]), unclear)
                elsewhere = pc.match_substring_regex(cells, _READABLE[other(decimal)])
                _note(seen.of_sign, decimal, cells, pc.and_not(clear, elsewhere), first_record)

    def _decide(self, column: OedColumn, commas: bool, locate: Callable[[int], str]) -> str:
        seen = self._seen[column.name]
        shown = {**seen.unclear, **seen.of_sign}
        if len(seen.of_sign) > 1 or (not seen.of_sign and len(seen.unclear) > 1):
            (record, text), (other_record, other_text) = shown["."], shown[","]
            raise ExposureError(
                f"{locate(record)}, column {column.name}: {text!r} has another decimal sign than {other_text!r} in "
                f"{locate(other_record).rpartition(', ')[2]}; write all numbers of the column in the same way"
            )
        for sign, (record, text) in seen.of_sign.items():
            contradicts = sign == "," or bool(seen.unclear)
            if self._stated == other(sign) and contradicts and not self._is_limited(column):
                raise ExposureError(
                    f"{locate(record)}, column {column.name}: {text!r} has the decimal sign {sign!r}, but "
                    f"{self._where} says {self._stated!r}"
                )
            return sign
        if not seen.unclear:
            return "."
        if self._stated:
            return self._stated
        ((sign, (record, text)),) = seen.unclear.items()
        if self._delimiter == "," and sign == "." and not commas:
            return "."
        raise ExposureError(
            f"{locate(record)}, column {column.name}: {text!r} can be {_reading(text, sign)} or "
            f"{_reading(text, other(sign))}: write '.' or ',' in {self._where}"
        )

    @staticmethod
    def _is_limited(column: OedColumn) -> bool:
        return column.largest is not None and column.largest < _SMALLEST_WITH_THOUSANDS


def first_unclear(cells: "pa.Array | Sequence[object]", column: OedColumn) -> int | None:
    """Return the position of the first text that can be two numbers, in a source that is not a CSV file.

    Such a source has numbers. Text among them was written by somebody who may have separated thousands by points, and
    other cells do not show which.

    Args:
        cells: the source's cells, of any type.
        column: their column.
    """
    if column.type is ColumnType.TEXT or (column.largest is not None and column.largest < _SMALLEST_WITH_THOUSANDS):
        return None
    if isinstance(cells, Sequence):
        found = (number for number, cell in enumerate(cells) if isinstance(cell, str) and _UNCLEAR_TEXT.match(cell))
        return next(found, None)
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return None
    position: int = pc.index(pc.match_substring_regex(cells.cast(pa.string()), _UNCLEAR["."]), True).as_py()
    return position if position >= 0 else None


def unclear(where: str, column: OedColumn, text: str) -> ExposureError:
    """Return the error for such a text.

    Args:
        where: the place of its row.
        column: its column.
        text: the text.
    """
    return ExposureError(
        f"{where}, column {column.name}: the text {text!r} can be {_reading(text.strip(), '.')} or "
        f"{_reading(text.strip(), ',')}: give the column as numbers, not as text"
    )


def with_points(cells: "pa.Array", sign: str) -> "pa.Array":
    """Return a column's numbers with a decimal point and without separators; other cells do not change.

    Args:
        cells: the cells of the file.
        sign: the decimal sign of the column.
    """
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring_regex(cells, "," if sign == "." else "[.,]")).as_py():
        return cells
    numbers = pc.match_substring_regex(cells, _READABLE[sign])
    rewritten = pc.replace_substring(cells, other(sign), "")
    return pc.if_else(numbers, pc.replace_substring(rewritten, sign, "."), cells)


def with_point(text: str, sign: str) -> str:
    """Do the same for one cell, in a different way: for control totals, which are a second opinion."""
    digits = text.strip().lstrip("+-")
    if sign == ".":
        return text.replace(",", "")
    head, *groups = digits.split(".")
    is_decimal_point = len(groups) == 1 and not (
        "," in digits or (len(groups[0]) == 3 and 1 <= len(head.lstrip("0")) < 4)
    )
    return text if is_decimal_point else text.replace(".", "").replace(",", ".")


def described(signs: Mapping[str, str]) -> str:
    """Return which decimal signs a file has, in words."""
    commas = [name for name, sign in signs.items() if sign == ","]
    if not commas:
        return "decimal '.'"
    if len(commas) == len(signs):
        return "decimal ','"
    return f"decimal ',' in {', '.join(commas)} and '.' elsewhere"


def _note(
    seen: dict[str, tuple[int, str]], sign: str, cells: "pa.Array", matches: "pa.Array", first_record: int
) -> None:
    import pyarrow.compute as pc

    if sign not in seen:
        position = pc.index(matches, True).as_py()
        if position >= 0:
            seen[sign] = (first_record + position, cells[position].as_py().strip())


def _reading(text: str, sign: str) -> str:
    """Return a cell that can be read in two ways, read with ``sign`` as the decimal sign."""
    number = float(text.replace(other(sign), "").replace(sign, "."))
    return f"{number:,.0f}" if number.is_integer() else re.sub(r"0+$", "", f"{number:,.3f}")
