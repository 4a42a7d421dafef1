"""Checks of single values, which several sheets and engines use in annotations.

They raise ValueError with a message for the user.
"""

import re
import unicodedata
from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator

from irp_pipeline.columns.kinds import joined, trimmed
from irp_pipeline.columns.problems import quoted

_MAX_TEXT = 30_000
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?")


def refuse_unusable_characters(text: str) -> None:
    for char in text:
        category = unicodedata.category(char)
        if (category == "Cc" and char not in "\n\t") or category == "Cs" or char in "\ufffe\uffff":
            raise ValueError(f"holds the character U+{ord(char):04X}, which cannot be shown; type the text again")


def _text(text: str) -> str:
    text = trimmed(text)
    if not text:
        raise ValueError("is empty, but must be filled")
    refuse_unusable_characters(text)
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


Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[Text, AfterValidator(_name)]
