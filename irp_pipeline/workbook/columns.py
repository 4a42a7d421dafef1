"""What a column is, and how its cells become values and values cells.

The ``read`` of a kind takes what Excel holds in a cell that is not empty, and raises ValueError with a message for
the user. It says what a cell means, not whether the value is allowed there: that is for the fields of
:mod:`irp_pipeline.workbook.sheets`.
"""

import contextlib
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

from irp_pipeline.workbook.choices import Delimiter, Engine, PortfolioSource
from irp_pipeline.workbook.problems import quoted, suggestion

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

HEADER_ROW = 1
"""The row of every sheet that names its columns."""

_INVISIBLE = "\u200b\u2060\ufeff"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMMA_BETWEEN_DIGITS = re.compile(r"[0-9],[0-9]")
_DELIMITERS = {",": Delimiter.COMMA, ";": Delimiter.SEMICOLON, "\\t": Delimiter.TAB, "|": Delimiter.PIPE}
_STRAIGHT_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00a0": " "})
_ANSWERS = {"yes": True, "y": True, "true": True, "1": True, "no": False, "n": False, "false": False, "0": False}


@dataclass(frozen=True)
class Kind:
    """How the cells of a column are read and written.

    Attributes:
        description: what a cell holds, in the words of the documentation.
        read: makes a value of a cell's; ValueError with a message for the user.
        write: makes a cell's value of a field's.
        as_text: whether Excel should keep what is typed as it is, and not make a number or a date of it.
        several_numbers: whether what Excel took for one number may have been a list.
        several: whether it holds several values.
        holds_object: whether it holds a JSON object.
    """

    description: str
    read: Callable[[object], object]
    write: Callable[[Any], object] = lambda value: value
    as_text: bool = False
    several_numbers: bool = False
    several: bool = False
    holds_object: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a sheet, or a setting of the Metadata sheet.

    Attributes:
        help: what belongs in it; Markdown, one to three sentences.
        kind: how its cells are read and written.
        examples: what would be typed into it, for each row of the example workbook; empty: left out.
        only_for: the engine or source that alone uses it; with any other it must be empty.
        needed: whether it must be filled where ``only_for`` holds.
        options: what the drop-down offers.
        options_from: sheet and column whose values the drop-down offers.
        options_only: whether Excel refuses anything but an option.
        width: in characters.
    """

    help: str
    kind: Kind
    examples: tuple[str, ...]
    only_for: Engine | PortfolioSource | None = None
    needed: bool = False
    options: tuple[str, ...] = ()
    options_from: tuple[str, str] | None = None
    options_only: bool = True
    width: int = 18

    def value_of(self, value: object) -> object:
        """Read a value, whatever way it comes by: as a cell holds it, from JSON, or as a field holds it already.

        Raises:
            ValueError: it is none of this column; the message is for the user.
        """
        if value is None:
            return None
        if isinstance(value, Mapping):
            if not self.kind.holds_object:
                raise ValueError("must not be an object in braces")
            return dict(value)
        if isinstance(value, list | tuple | set | frozenset):
            if not self.kind.several:
                raise ValueError("must be one value, not a list")
            return [read for item in value for read in self._items_of(item)]
        return self.kind.read(value)

    def _items_of(self, value: object) -> Sequence[object]:
        if value is None or isinstance(value, Mapping | list | tuple):
            raise ValueError("must be a list of single values")
        read = self.kind.read(value)
        return read if isinstance(read, list) else [read]

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Have the fields of a row read by their columns, so that all ways to a row are one."""
        return core_schema.no_info_before_validator_function(self.value_of, handler(source))

    @property
    def selector(self) -> str:
        """The column that ``only_for`` is a value of."""
        return "engine" if isinstance(self.only_for, Engine) else "source"


def trimmed(text: str) -> str:
    """``text`` without what surrounds it unseen, and with one kind of line break."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip().strip(_INVISIBLE).strip()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, str):
        return value
    raise ValueError(f"Excel holds this as a date or time ({value}); format the cell as text and type it again")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"must be a number, not {value}; check the format of the cell")
    if not isinstance(value, str):
        try:
            return float(value)
        except OverflowError:
            raise ValueError("holds a number that is too large") from None
    digits = value.removesuffix("%").rstrip()
    if not _NUMBER.fullmatch(digits):
        hint = "; write the decimal point as '.'" if re.fullmatch(r"[0-9]+,[0-9]+", digits) else ""
        raise ValueError(f"{quoted(value)} is not a number{hint}")
    number = float(digits) / 100 if value.endswith("%") else float(digits)
    if not math.isfinite(number):
        raise ValueError("holds a number that is too large")
    return number


def _whole_number(value: object) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ValueError(f"{quoted(value)} is not a whole number")
    return int(number)


def _words(value: object) -> list[str]:
    return [word for item in re.split(r"[;,\n]", _text(value)) if (word := item.strip())]


def _number_items(value: object) -> list[object]:
    if not isinstance(value, str):
        return [value]
    if _COMMA_BETWEEN_DIGITS.search(value):
        raise ValueError(f"the comma in {quoted(value)} can be read in two ways; write '50; 100; 250' and '0.5'")
    return list(_words(value))


def _numbers(value: object) -> list[float]:
    return [_number(item) for item in _number_items(value)]


def _whole_numbers(value: object) -> list[int]:
    return [_whole_number(item) for item in _number_items(value)]


def _yes_no(value: object) -> bool:
    answer = value if isinstance(value, bool) else _ANSWERS.get(_text(value).casefold())
    if answer is None:
        raise ValueError(f"{quoted(value)} is neither yes nor no")
    return answer


def _date(value: object) -> dt.date:
    if isinstance(value, dt.datetime):
        if value.time() != dt.time():
            raise ValueError(f"{value} is a date with a time; only the date belongs here")
        return value.date()
    if isinstance(value, dt.date):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        with contextlib.suppress(ValueError):
            return dt.date.fromisoformat(value)
    raise ValueError(f"{quoted(value)} is not a date; format the cell as a date or write it as 2024-01-31")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"holds {name}, which JSON does not know")


def _object_without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("holds the same name twice in one JSON object")
    return result


def json_object(text: str) -> dict[str, object]:
    """Read ``text`` as a JSON object.

    Raises:
        ValueError: it is none; the message ends a sentence that begins with what the text is.
    """
    try:
        result = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object_without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at line {error.lineno}, character {error.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(result, dict):
        raise ValueError('must be a JSON object, such as {"name": "value"}')
    return result


def _json_cell(value: object) -> dict[str, object]:
    return json_object(_text(value).translate(_STRAIGHT_QUOTES))


def _choice(value: object, choices: type[StrEnum]) -> str:
    text = _text(value)
    for choice in choices:
        if text.casefold() == choice.casefold():
            return choice
    raise ValueError(f"{quoted(text)} is unknown{suggestion(text, choices)}")


def _delimiter(value: object) -> str:
    text = _text(value)
    return _DELIMITERS.get(text) or _choice(text, Delimiter)


def joined(values: Iterable[object]) -> str:
    """A list as it is written into one cell."""
    return "; ".join(str(value) for value in values)


TEXT = Kind("text", _text, str, as_text=True)
WHOLE_NUMBER = Kind("whole number", _whole_number)
NUMBERS = Kind("numbers, separated by `;`", _numbers, joined, as_text=True, several_numbers=True, several=True)
WHOLE_NUMBERS = Kind(
    "whole numbers, separated by `;`", _whole_numbers, joined, as_text=True, several_numbers=True, several=True
)
NAMES = Kind("names, separated by `;`", _words, joined, as_text=True, several=True)
YES_NO = Kind("yes or no", _yes_no, lambda value: "yes" if value else "no")
DATE = Kind("date", _date)
JSON = Kind(
    "JSON object", _json_cell, lambda value: json.dumps(value, ensure_ascii=False), as_text=True, holds_object=True
)


DELIMITER = Kind("`comma`, `semicolon`, `tab` or `pipe`", _delimiter, str, as_text=True)


def one_of(choices: type[StrEnum]) -> Kind:
    """A column whose cells hold one of ``choices``; capitals make no difference."""
    *others, last = (f"`{choice}`" for choice in choices)
    description = f"{', '.join(others)} or {last}" if others else last
    return Kind(description, lambda value: _choice(value, choices), str)


def several_of(choices: type[StrEnum]) -> Kind:
    """A column whose cells hold one or several of ``choices``."""
    return Kind(
        f"{', '.join(f'`{choice}`' for choice in choices)}, separated by `;`",
        lambda value: [_choice(word, choices) for word in _words(value)],
        joined,
        as_text=True,
        several=True,
    )
