"""Values as a source gives them, turned into the types that OED columns have here.

Every source goes through here, so that the same value arrives as the same value, whether it came from a CSV file,
a Parquet file or a database. Nothing is rounded, cut or dropped on the way: a value that does not fit its column's
type is an error with row and column.
"""

import datetime as dt
import decimal
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import Column, ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

# What ods_tools, and with it Oasis LMF, reads as an empty cell of a CSV file. "NA" is not among them: it is Namibia.
NULL_TEXTS = (
    *("", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("N/A", "NULL", "NaN", "n/a", "nan", "null"),
)
_WHAT_FITS = {
    ColumnType.NUMBER: "a number",
    ColumnType.INTEGER: f"a whole number between {-(2**31)} and {2**31 - 1}",
    ColumnType.LARGE_INTEGER: "a whole number",
    ColumnType.TEXT: "text",
}


def schema_of(columns: Sequence[Column]) -> "pa.Schema":
    """The Arrow schema that a table with these columns always has."""
    import pyarrow as pa

    return pa.schema([(column.name, pa.type_for_alias(column.type.value)) for column in columns])


def conform(
    batch: "pa.RecordBatch", columns: Sequence[Column], first_record: int, locate: Callable[[int], str]
) -> "pa.RecordBatch":
    """Give a batch the names and types of its columns.

    Args:
        batch: rows as the source gives them, columns in the order of ``columns``.
        columns: the names and types wanted.
        first_record: how many records came before this batch.
        locate: says where a record is, given its number from 0, such as ``location.csv, row 17``.

    Raises:
        ExposureError: values that do not fit; the first bad one of every column is named.
    """
    import pyarrow as pa

    arrays, faults = [], []
    for array, column in zip(batch.columns, columns, strict=True):
        try:
            arrays.append(_convert(array, column.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            record, value = _first_misfit(array, column.type)
            faults.append(
                f"{locate(first_record + record)}, column {column.name}: {value!r} is not {_WHAT_FITS[column.type]}"
            )
    if faults:
        raise ExposureError("\n".join(faults))
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


def array_of(values: Sequence[object]) -> "pa.Array":
    """Put the Python values of a database driver into an Arrow array, each as it is.

    The type follows the values at hand; :func:`conform` brings it to the column's. Numbers stay numbers only where
    nothing is lost: pyarrow left to itself makes 1 of 1.7 when asked for an integer.
    """
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    try:
        if kinds <= {str}:
            return pa.array(values, pa.string())
        if kinds == {int}:
            return pa.array(values, pa.int64())
        if kinds == {float}:
            return pa.array(values, pa.float64())
    except (pa.ArrowInvalid, OverflowError):  # an integer beyond 64 bits, text with a lone surrogate
        pass
    return pa.array([as_text(value) for value in values], pa.string())


def as_text(value: object) -> str | None:
    """Write a single database value as OED text: whole numbers without a fraction, dates as ``YYYY-MM-DD``."""
    match value:
        case None:
            return None
        case str():
            return value
        case bool():
            return str(int(value))
        case float():
            return _float_as_text(value)
        case decimal.Decimal():
            return f"{value:f}" if value.is_finite() else None if value.is_nan() else str(value)
        case dt.datetime():
            return value.isoformat(sep=" ").removesuffix(" 00:00:00")
        case bytes() | bytearray() | memoryview():
            return _bytes_as_text(bytes(value))
        case _:
            return str(value)


def _float_as_text(value: float) -> str | None:
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _bytes_as_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _convert(array: "pa.Array", column_type: ColumnType) -> "pa.Array":
    import pyarrow as pa

    array = _plain(array)
    if column_type is ColumnType.TEXT:
        return _to_text(array)
    if pa.types.is_decimal(array.type):  # by way of text: the direct cast may be off in the last digit
        array = array.cast(pa.string())
    if column_type is ColumnType.NUMBER:
        return _to_number(array)
    return _to_integer(array, pa.type_for_alias(column_type.value))


def _plain(array: "pa.Array") -> "pa.Array":
    """Without dictionary, extension or 64-bit offsets."""
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _to_text(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        return array
    if pa.types.is_floating(array.type):
        array = _without_nan(array)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    text = array.cast(pa.string())
    if pa.types.is_timestamp(array.type):
        return pc.replace_substring_regex(text, r"( 00:00:00)?(\.0+)?Z?$", "")
    return text


def _to_number(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        array = _parse(array, pa.float64())
    elif not pa.types.is_float64(array.type):
        array = array.cast(pa.float64(), safe=False)
    if pc.all(pc.is_finite(array)).as_py() is False:
        array = _without_nan(array)
        if pc.any(pc.is_inf(array)).as_py():
            raise pa.ArrowInvalid("an infinite number")
    return array


def _to_integer(array: "pa.Array", integer_type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa

    if pa.types.is_string(array.type):
        try:
            return _parse(array, integer_type)
        except pa.ArrowInvalid:  # "2.0", which a spreadsheet or pandas makes of 2
            array = _parse(array, pa.float64())
    if pa.types.is_floating(array.type):
        array = _without_nan(array)
    if pa.types.is_temporal(array.type):
        raise pa.ArrowInvalid("a date or time")
    return array.cast(integer_type)


def _parse(text: "pa.Array", number_type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return text.cast(number_type)
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(text)
        blank = pc.is_in(trimmed, pa.array(NULL_TEXTS))
        return pc.if_else(blank, pa.scalar(None, pa.string()), trimmed).cast(number_type)


def _without_nan(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)


def _first_misfit(array: "pa.Array", column_type: ColumnType) -> tuple[int, object]:
    """The first value of the array that does not convert, by halving; the array as a whole does not."""
    import pyarrow as pa

    start, stop = 0, len(array)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            _convert(array[start:middle], column_type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            stop = middle
        else:
            start = middle
    return start, array[start].as_py()
