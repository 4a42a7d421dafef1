"""What one cell may hold: the checks of one value.

Here: the checks that a field's annotation in :mod:`irp_pipeline.workbook.sheets` names. They raise ValueError with a
message for the user. Not here: reading the text of a cell (:mod:`irp_pipeline.workbook.columns`), and what must hold
between cells (:mod:`irp_pipeline.workbook.rows`, :mod:`irp_pipeline.workbook.rules`).
"""

import codecs
import datetime as dt
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue

from irp_pipeline.exposure.currencies import CURRENCIES
from irp_pipeline.workbook.columns import joined, trimmed
from irp_pipeline.workbook.problems import quoted, suggestion
from irp_pipeline.workbook.sources import leaves_folder

_MAX_TEXT = 30_000
_USUAL_ENCODINGS = ("utf-8", "utf-16", "cp1252", "cp1250", "latin-1", "mac_roman")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?")
_FIRST_DATE, _LAST_DATE = dt.date(1950, 1, 1), dt.date(2199, 12, 31)


def _refuse_unusable_characters(text: str) -> None:
    for char in text:
        category = unicodedata.category(char)
        if (category == "Cc" and char not in "\n\t") or category == "Cs" or char in "\ufffe\uffff":
            raise ValueError(f"holds the character U+{ord(char):04X}, which cannot be shown; type the text again")


def _text(text: str) -> str:
    text = trimmed(text)
    if not text:
        raise ValueError("is empty, but must be filled")
    _refuse_unusable_characters(text)
    if len(text) > _MAX_TEXT:
        raise ValueError(f"has {len(text):,} characters; at most {_MAX_TEXT:,} are possible")
    return text


def _name(name: str) -> str:
    if not _NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"{quoted(name)} cannot be a name: 1 to 100 of A-Z, a-z, 0-9, '_', '-' and '.', "
            "not beginning with '-' or '.', not ending with '.', without '..'"
        )
    return name


def part_of_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,49}", name):
        raise ValueError(  # without the text, which may be an address with its password
            "is not a short name of up to 50 letters, digits and '_'; the address belongs into the environment"
        )
    return name.upper()


def checked_encoding(name: str) -> str:
    try:
        "".encode(codecs.lookup(name).name)  # not for what Python calls an encoding too, such as base64
    except (LookupError, ValueError):
        raise ValueError(f"{quoted(name)} is no encoding{suggestion(name, _USUAL_ENCODINGS)}") from None
    return name.lower()


def checked_currency(code: str) -> str:
    code = code.upper()
    if code not in CURRENCIES:
        raise ValueError(f"{quoted(code)} is not an ISO 4217 currency code{suggestion(code, CURRENCIES)}")
    return code


def checked_exposure_date(value: dt.date) -> dt.date:
    if not _FIRST_DATE <= value <= _LAST_DATE:
        raise ValueError(f"{value} is not between {_FIRST_DATE} and {_LAST_DATE}")
    return value


def checked_loss_factor(value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{value:g} is not above 0 and at most 1")
    return value


def checked_samples(value: int) -> int:
    if not 0 <= value <= 100_000:
        raise ValueError(f"{value} is not between 0 and 100,000")
    return value


def checked_return_period(value: int) -> int:
    if not 1 <= value <= 10_000_000:
        raise ValueError(f"{value} is not between 1 and 10,000,000 years")
    return value


def ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(values))


def not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("is empty, but must be filled")
    return values


def no_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if repeated := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"{joined(repeated)} is listed more than once")
    return values


def _leaves_of_json(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _leaves_of_json(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves_of_json(item)
    else:
        yield value


def checked_model_options(options: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for leaf in _leaves_of_json(options):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise ValueError("holds a number that is too large")
        if isinstance(leaf, str):
            _refuse_unusable_characters(leaf)
            if leaves_folder(leaf):
                raise ValueError(f"{quoted(leaf)} is outside of the model's folder, to which paths are relative here")
    return options


Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[Text, AfterValidator(_name)]
