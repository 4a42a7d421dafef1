"""What PostgreSQL cannot store: finding it in a value, and making text safe for PostgreSQL and for a terminal.

PostgreSQL cannot store a NUL character, UTF-8 cannot encode half of a surrogate pair, and JSON has no NaN and no
infinity. Values from engines, files and notebooks may contain any of them. Nothing here uses a database.

https://www.postgresql.org/docs/current/datatype-json.html
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

MOST_LEVELS: Final = 100
"""How deep lists and dicts may be nested; Python's own encoder gives up before 1,000."""

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_CONTROL: Final = re.compile("[\x01-\x08\x0b-\x1f\x7f-\x9f]")
_MOST_DIGITS: Final = 4300  # https://docs.python.org/3/library/stdtypes.html#int-max-str-digits
_LONGEST_KEY: Final = 60


@dataclass(frozen=True)
class Unstorable:
    """A place in a value that cannot be stored.

    Attributes:
        path: the path to it, such as ``figures[3].loss``; empty if it is the value itself.
        reason: what is wrong with it, worded to follow the path in a sentence: "holds a NUL character".
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path or 'It'} {self.reason}"


class UnstorableError(ValueError):
    """A value or a JSON document cannot be stored; the message says where and why."""


def unstorable(value: object, finite: bool = True) -> Unstorable | None:
    """Find the first place in a JSON-like value that PostgreSQL cannot store.

    Args:
        value: dicts, lists, tuples, sets, text, numbers; anything else is ignored.
        finite: whether NaN and infinity are refused as values. They are always refused as keys.

    Returns:
        The place with the reason, or None if the whole value can be stored.
    """
    return next(_unstorable(value, "", finite, 0), None)


def unstorable_text(text: str) -> str | None:
    """Return why PostgreSQL cannot store a text, worded as :attr:`Unstorable.reason`; None if it can."""
    found = _UNSTORABLE.search(text)
    if found is None:
        return None
    what = "a NUL character" if found[0] == "\0" else f"half of a surrogate pair (U+{ord(found[0]):04X})"
    return f"holds {what}, which PostgreSQL cannot store, at character {found.start() + 1}"


def as_stored(text: str) -> str:
    """Return text unchanged, except ``␀`` for a NUL character and ``?`` for half of a surrogate pair."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()


def storable_text(text: str, longest: int | None = None) -> str:
    """Return text that PostgreSQL can store and a terminal can show.

    Args:
        text: any text.
        longest: how many characters to keep at most; an ellipsis marks where text was cut off.

    Returns:
        The text; U+FFFD replaces what cannot be stored, and control characters except tab and newline are dropped.
    """
    clean = _CONTROL.sub("", _UNSTORABLE.sub("\ufffd", text))
    return clean if longest is None or len(clean) <= longest else f"{clean[:longest]} …"


def one_line(text: str, longest: int) -> str:
    """Return text as :func:`storable_text` does, in one line and without spaces at its ends."""
    return storable_text(" ".join(text.split()), longest)


def read_json(content: bytes) -> Any:
    """Read a JSON document from outside, and check that all of it can be stored.

    Raises:
        UnstorableError: it is not JSON, or something in it cannot be stored.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise UnstorableError(f"It is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise UnstorableError(f"It is not UTF-8: byte {error.start + 1} is 0x{content[error.start]:02x}") from None
    except RecursionError:
        raise UnstorableError(f"It {_TOO_DEEP}") from None
    except ValueError as error:  # a whole number with more digits than Python reads
        raise UnstorableError(f"It is not usable JSON: {error}") from None
    if found := unstorable(value):
        raise UnstorableError(str(found))
    return value


_TOO_DEEP: Final = f"is nested deeper than {MOST_LEVELS} levels"


def _unstorable(value: object, path: str, finite: bool, level: int) -> Iterator[Unstorable]:
    if isinstance(value, str):
        if reason := unstorable_text(value):
            yield Unstorable(path, reason)
    elif isinstance(value, float):
        if finite and not math.isfinite(value):
            yield Unstorable(path, f"is {value}, which is no number")
    elif isinstance(value, int):
        # Bounds the number of digits without a conversion.
        if value.bit_length() > _MOST_DIGITS * math.log2(10):
            yield Unstorable(path, f"is a whole number of more than {_MOST_DIGITS} digits")
    elif isinstance(value, dict | list | tuple | set | frozenset):
        if level >= MOST_LEVELS:
            yield Unstorable(_shortened(path), _TOO_DEEP)
            return
        if isinstance(value, dict):
            for key, item in value.items():
                below = f"{path}.{_shown(key)}" if path else _shown(key)
                if reason := _reason_against_key(key):
                    yield Unstorable(below, f"has a key that {reason}")
                yield from _unstorable(item, below, finite, level + 1)
        else:
            for index, item in enumerate(value):
                yield from _unstorable(item, f"{path}[{index}]", finite, level + 1)


def _reason_against_key(key: object) -> str | None:
    if isinstance(key, str):
        return unstorable_text(key)
    if isinstance(key, float) and not math.isfinite(key):
        return f"is {key}, which is no number"
    return None


def _shown(key: object) -> str:
    return one_line(str(key), _LONGEST_KEY) or repr(key)


def _shortened(path: str) -> str:
    return path if len(path) <= 2 * _LONGEST_KEY else f"{path[: 2 * _LONGEST_KEY]} …"
