"""Turning the values of a notebook into values that the driver can bind.

A parameter may be anything that a DataFrame cell can hold. Missing values of every kind (``None``, ``NaN``, ``NaT``,
``pd.NA``) become NULL; numpy and pandas scalars become Python values; a dict becomes JSONB; a list becomes an
array; a tuple becomes the right-hand side of ``IN``. No connections here.
"""

import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg2.extras import Json

from irp_pipeline.storable import Unstorable as Unstorable
from irp_pipeline.storable import UnstorableError as UnstorableError
from irp_pipeline.storable import storable_text as storable_text
from irp_pipeline.storable import unstorable as unstorable
from irp_pipeline.storable import unstorable_text as unstorable_text

_PLAIN: frozenset[type] = frozenset({int, str, bool, type(None), bytes, dt.datetime, dt.date, dt.time, dt.timedelta})


class _Jsonb(Json):
    """A JSON text with its type, so that it means the same in a column, an operator and a function call."""

    def getquoted(self) -> bytes:
        quoted: bytes = super().getquoted()
        return quoted + b"::jsonb"


def bind_all(values: Sequence[Any], jsonb: frozenset[int] = frozenset()) -> tuple[Any, ...]:
    """Prepare the values of one statement for the driver.

    Args:
        values: one value for each placeholder.
        jsonb: positions whose lists and scalars are JSON and not arrays.

    Returns:
        The bound values, in order. JSON documents are written when the driver asks for them; a value without a JSON
        form raises a TypeError at that point.
    """
    if jsonb:
        return tuple(bind_jsonb(value) if i in jsonb else bind(value) for i, value in enumerate(values))
    return tuple([value if type(value) in _PLAIN else bind(value) for value in values])


def bind(value: Any) -> Any:
    """Prepare one value for the driver; the module's docstring says how each kind is converted."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return _Jsonb(value, dumps=json_text)
    if isinstance(value, list):
        return [bind(item) for item in value]
    if isinstance(value, tuple):
        return tuple(bind(item) for item in value)
    if isinstance(value, enum.Enum):
        return bind(value.value)
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, decimal.Decimal):
        return None if value.is_nan() else value
    native = _native(value)
    return value if native is value else bind(native)


def bind_jsonb(value: Any) -> Any:
    """Prepare one value for a JSONB column: a missing value becomes NULL, a string is taken as JSON text."""
    if value is None or isinstance(value, str | bytes):
        return value
    value = _native(value)
    if value is None or (isinstance(value, float | decimal.Decimal) and bind(value) is None):
        return None
    return _Jsonb(value, dumps=json_text)


def json_text(value: Any) -> str:
    """Return ``value`` as JSON text that PostgreSQL accepts, with missing and infinite numbers as null.

    Raises:
        TypeError: something in it has no JSON form.
        UnstorableError: something in it cannot be stored; the message says where.
    """
    try:
        text = _encode(value)
    except (ValueError, TypeError, RecursionError):
        _refuse_unstorable(value)
        text = _encode(json_value(value))
    # The encoder always escapes a NUL; it also escapes a backslash before "u0000" in the text itself.
    if "\\u0000" in text or 'NaN":' in text or 'Infinity":' in text or not _is_utf8(text):
        _refuse_unstorable(value)
    return text


def unstorable_parameter(values: Sequence[Any], columns: Sequence[str] = ()) -> str | None:
    """Return which value of a statement PostgreSQL cannot store.

    Args:
        values: one value for each placeholder, as the caller gave them.
        columns: the column that each placeholder fills, as far as known.

    Returns:
        A sentence such as "Parameter 2 (error_message) holds a NUL character, …"; None if all can be stored.
    """
    for number, value in enumerate(values):
        if found := unstorable(value, finite=False):
            column = f" ({columns[number]})" if number < len(columns) else ""
            place = f", at {found.path}," if found.path else ""
            return f"Parameter {number + 1}{column}{place} {found.reason}"
    return None


def _refuse_unstorable(value: Any) -> None:
    if found := unstorable(value, finite=False):
        raise UnstorableError(str(found))


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_value(value: Any) -> Any:
    """Return ``value`` as plain dicts, lists, strings, numbers, booleans and None.

    Raises:
        TypeError: something in it has no JSON form.
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_json_key(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in value]
    return json_value(_json_value(value))


def _json_key(key: Any) -> str:
    """Return a key as the encoder writes it: Python's None, True and 1 become ``null``, ``true`` and ``1``."""
    key = _native(key)
    if isinstance(key, enum.Enum):
        return _json_key(key.value)
    return json.dumps(key) if key is None or isinstance(key, int | float) else str(key)


def _json_value(value: Any) -> Any:
    """Return a simpler form of a value that JSON does not know; the encoder calls this again for values inside it."""
    native = _native(value)
    if native is not value:
        return native
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return None
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, uuid.UUID) or hasattr(value, "__fspath__"):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


# One encoder for all documents: json.dumps with these arguments would make a new one for each.
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, default=_json_value).encode


def _native(value: Any) -> Any:
    """Return the Python value of a numpy or pandas scalar or array; return any other value unchanged.

    The name of the type's module identifies them, so that callers who use neither library do not import it.
    """
    library = type(value).__module__.partition(".")[0]
    if library == "pandas":
        return _native_pandas(value)
    if library == "numpy":
        if type(value).__name__ in {"datetime64", "timedelta64"}:
            import pandas as pd

            scalar = pd.Timestamp(value) if type(value).__name__ == "datetime64" else pd.Timedelta(value)
            return _native_pandas(scalar)
        if hasattr(value, "tolist"):
            if value.dtype.kind in "mM":  # its tolist() gives nanoseconds since 1970 as whole numbers
                return [_native(item) for item in value]
            plain = value.tolist()
            return value if type(plain) is type(value) else plain  # longdouble stays unchanged
    return value


def _native_pandas(value: Any) -> Any:
    import pandas as pd

    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime(warn=False)
    if isinstance(value, pd.Timedelta):
        return value.to_pytimedelta()
    return value


def check_values(values: object) -> Sequence[Any]:
    """Return the values of a statement if they are in a tuple or a list.

    Raises:
        TypeError: they are anything else, such as a single value, a string or a dict.
    """
    if values is None:
        return ()
    if not isinstance(values, tuple | list):
        raise TypeError(
            f"The values of a statement must be in a tuple or a list, not {type(values).__name__}: "
            f"write (value,) for a single value"
        )
    return values


def jsonb_positions(named: Iterable[str | int] | None, columns: Sequence[str], placeholders: int) -> frozenset[int]:
    """Return which placeholders fill a JSONB column.

    Args:
        named: names of columns, or positions from 0.
        columns: the column that each placeholder fills.
        placeholders: how many placeholders there are.

    Raises:
        ValueError: a name is not among the statement's columns, or a position has no placeholder.
    """
    positions = set()
    for name in named or ():
        if isinstance(name, int):
            if not 0 <= name < placeholders:
                raise ValueError(
                    f"jsonb_columns names position {name}, but the statement's number of placeholders is {placeholders}"
                )
            positions.add(name)
            continue
        found = {i for i, column in enumerate(columns) if column == name or column == name.lower()}
        if not found:
            raise ValueError(
                f"jsonb_columns names {name!r}, but the statement's columns are: {', '.join(columns) or 'none'}"
            )
        positions |= found
    return frozenset(positions)
