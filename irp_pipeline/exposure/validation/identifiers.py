"""Identifiers that are probably wrong: rewritten by a program, or with characters that are invisible or stop a run."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from irp_pipeline.exposure.oed import OedTable
from irp_pipeline.exposure.readers.conversion import NULL_TEXTS
from irp_pipeline.exposure.validation import checks
from irp_pipeline.exposure.validation.checks import Check
from irp_pipeline.exposure.validation.findings import Finding, LoadedExposure

_COLUMNS: Final = {
    OedTable.LOCATION: ("PortNumber", "AccNumber", "LocNumber", "LocGroup", "CondTag"),
    OedTable.ACCOUNT: ("PortNumber", "AccNumber", "PolNumber", "CondTag"),
    OedTable.RI_SCOPE: ("PortNumber", "AccNumber", "PolNumber", "LocNumber", "LocGroup"),
}
_READ_AS_EMPTY: Final = frozenset(NULL_TEXTS) - {""}
_SHORTENED: Final = (
    "looks like a number that a program shortened, so digits may be lost, and other rows may have become equal to this "
    "one; save the file again with this column as text"
)
_WITH_FRACTION: Final = (
    "looks like a whole number to which a program added a fraction; compare it with the other tables"
)
_EMPTY: Final = "looks like a program's text for an empty cell; if so, empty the cell"
_QUOTED: Final = (
    "looks like a notation that keeps zeros in a spreadsheet; here it is part of the identifier, so compare it "
    "with the other tables"
)
_REWRITTEN: Final = {
    re.compile(r"[0-9]+[.][0-9]+[eE][+-]?[0-9]+|[0-9]+[eE][+][0-9]+"): _SHORTENED,
    re.compile(r"[0-9]+[.]0+"): _WITH_FRACTION,
    re.compile("None|NaT|<NA>"): _EMPTY,
    re.compile(r"""="[^"]*"|'[^']*"""): _QUOTED,
}


_WORDS: Final = {*_READ_AS_EMPTY, "None", "NaT"}


def check_identifiers(exposure: LoadedExposure) -> Iterator[Finding]:
    """Find identifiers that Oasis LMF takes for empty, that a program rewrote, or that have invisible characters.

    Args:
        exposure: the tables.
    """
    for table, columns in _COLUMNS.items():
        for column in columns:
            if not exposure.filled(table, column):
                continue
            texts = exposure.texts(table, column)
            found: dict[Check, dict[str, str]] = {}
            for text in texts.unique():
                if text and (problem := _problem(str(text))):
                    found.setdefault(problem[0], {})[str(text)] = problem[1]
            for check, messages in found.items():
                yield from exposure.of_rows(check, table, column, texts.isin(messages.keys()), messages.__getitem__)


def _problem(text: str) -> tuple[Check, str] | None:
    if text.isascii() and text.isalnum() and text not in _WORDS:
        return None  # like most identifiers, of which there may be millions
    if text in _READ_AS_EMPTY:
        message = f"{text!r}: Oasis LMF takes it for an empty cell; empty the cell, or use another name"
        return checks.IDENTIFIER_READ_AS_EMPTY, message
    for pattern, message in _REWRITTEN.items():
        if pattern.fullmatch(text):
            return checks.IDENTIFIER_REWRITTEN, f"{text}: {message}"
    if "," in text or "#" in text:
        message = f"{text}: Oasis LMF stops at a comma or # in an identifier when a model runs; use another character"
        return checks.IDENTIFIER_SIGNS, message
    if text != text.strip() or not text.isprintable() or not unicodedata.is_normalized("NFC", text):
        message = (
            f"{text!a}: has a blank at an end, an invisible character, or an accent separate from its letter, "
            f"and is not equal to {_seen(text)}"
        )
        return checks.IDENTIFIER_UNSEEN, message
    return None


def _seen(text: str) -> str:
    """Return an identifier as a person sees it."""
    return "".join(sign for sign in unicodedata.normalize("NFC", text) if sign.isprintable()).strip()
