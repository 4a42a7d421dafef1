"""Kinds of cell content: how cells become values, and values become cells.

The ``read`` of a kind takes the content of a cell that is not empty, and raises ValueError with a message for the user.
It only interprets the cell; the annotation of the field says whether the value is allowed there.
"""

import contextlib
import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from irp_pipeline.columns.problems import quoted, suggestion

_INVISIBLE = "\u200b\u2060\ufeff"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMMA_BETWEEN_DIGITS = re.compile(r"[0-9],[0-9]")
_STRAIGHT_QUOTES = str.maketrans({"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00a0": " "})
_ANSWERS = {"yes": True, "y": True, "true": True, "1": True, "no": False, "n": False, "false": False, "0": False}


@dataclass(frozen=True)
class Kind:
    """How the cells of a column are read and written.

    Attributes:
        description: the content of a cell, in the words of the documentation.
        read: turns the content of a cell into a value; ValueError with a message for the user.
        write: turns the value of a field into the content of a cell.
        as_text: whether Excel should keep the typed text, and not turn it into a number or a date.
        several_numbers: whether a cell that Excel reads as one number may have been meant as a list.
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


def trimmed(text: str) -> str:
    """``text`` without invisible characters around it, and with one kind of line break."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip().strip(_INVISIBLE).strip()


def text_of(value: object) -> str:
    """Read a cell as text."""
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
    return [word for item in re.split(r"[;,\n]", text_of(value)) if (word := item.strip())]


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
    answer = value if isinstance(value, bool) else _ANSWERS.get(text_of(value).casefold())
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
        ValueError: it is not one; the message completes a sentence whose subject is the text.
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
    return json_object(text_of(value).translate(_STRAIGHT_QUOTES))


def choice_of(value: object, choices: Iterable[str]) -> str:
    """Read one of some words; they are not case-sensitive."""
    text = text_of(value)
    for choice in choices:
        if text.casefold() == choice.casefold():
            return choice
    raise ValueError(f"{quoted(text)} is unknown{suggestion(text, choices)}")


def joined(values: Iterable[object]) -> str:
    """A list as the text of one cell."""
    return "; ".join(str(value) for value in values)


TEXT = Kind("text", text_of, str, as_text=True)
NUMBER = Kind("number", _number)
WHOLE_NUMBER = Kind("whole number", _whole_number)
NUMBERS = Kind("numbers, separated by `;`", _numbers, joined, as_text=True, several_numbers=True, several=True)
WHOLE_NUMBERS = Kind(
    "whole numbers, separated by `;`", _whole_numbers, joined, as_text=True, several_numbers=True, several=True
)
NAMES = Kind("names, separated by `;`", _words, joined, as_text=True, several=True)
FIELDS = Kind("OED fields, joined by `+`; several separated by `;`", _words, joined, as_text=True, several=True)
YES_NO = Kind("yes or no", _yes_no, lambda value: "yes" if value else "no")
DATE = Kind("date", _date)
JSON = Kind(
    "JSON object", _json_cell, lambda value: json.dumps(value, ensure_ascii=False), as_text=True, holds_object=True
)


def one_of(choices: Iterable[str]) -> Kind:
    """A column whose cells hold one of ``choices``, which are not case-sensitive."""
    *others, last = (f"`{choice}`" for choice in choices)
    description = f"{', '.join(others)} or {last}" if others else last
    return Kind(description, lambda value: choice_of(value, choices), str)


def several_of(choices: Iterable[str]) -> Kind:
    """A column whose cells hold one or several of ``choices``."""
    return Kind(
        f"{', '.join(f'`{choice}`' for choice in choices)}, separated by `;`",
        lambda value: [choice_of(word, choices) for word in _words(value)],
        joined,
        as_text=True,
        several=True,
    )
