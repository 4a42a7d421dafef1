"""Converting the values of a source to the types of the OED columns.

Every source goes through here, so that the same value arrives as the same value, whether it came from a CSV file,
a Parquet file or a database. Nothing is rounded, cut or dropped on the way: a value that does not fit its column's
type is an error with row and column.

Identifiers are text. Sources often have them as numbers, for example because pandas turns a column of whole numbers
with a missing one into floats: ``10000000002.0`` becomes ``10000000002``. A float that is not exactly one whole number,
a boolean or a date cannot be an identifier and is an error.
"""

import contextlib
import datetime as dt
import decimal
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import ColumnType, Content, OedColumn

if TYPE_CHECKING:
    import pyarrow as pa

# The texts that ods_tools, and so Oasis LMF, reads as an empty cell of a CSV file. "NA" is not one: it is Namibia.
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
# By number of bits, the limit up to which a float can hold every whole number (IEEE 754).
_EXACT_FLOATS = {16: 2**11, 32: 2**24, 64: 2**53}
_MIDNIGHT = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]00:00(:00([.]0+)?)?(Z|[+-]00:?00)?$"


def schema_of(columns: Sequence[OedColumn]) -> "pa.Schema":
    """Return the Arrow schema of a table with these columns; it is always the same."""
    import pyarrow as pa

    return pa.schema([(column.name, pa.type_for_alias(column.type.value)) for column in columns])


def conform(
    batch: "pa.RecordBatch", columns: Sequence[OedColumn], first_record: int, locate: Callable[[int], str]
) -> "pa.RecordBatch":
    """Convert a batch to the names and types of its columns.

    Args:
        batch: rows of the source, with the columns in the order of ``columns``.
        columns: the names and types wanted.
        first_record: how many records came before this batch.
        locate: returns where a record is, given its number from 0, such as ``location.csv, row 17``.

    Raises:
        ExposureError: values do not fit; the message names the first such value of every column.
    """
    import pyarrow as pa

    arrays, faults = [], []
    for array, column in zip(batch.columns, columns, strict=True):
        try:
            arrays.append(_convert(array, column))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            record, value = _first_misfit(array, column)
            faults.append(misfit(locate(first_record + record), column, value))
    if faults:
        raise ExposureError("\n".join(faults))
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


def misfit(where: str, column: OedColumn, value: object) -> str:
    """Return a message that a value does not fit its column.

    Args:
        where: the place of its row.
        column: its column.
        value: the Python value.
    """
    place = f"{where}, column {column.name}"
    if column.type is not ColumnType.TEXT:
        return f"{place}: {value!r} is not {_WHAT_FITS[column.type]}"
    what = "a date" if column.content is Content.DATE else "an identifier"
    match value:
        case str() if "\0" in value:
            return f"{place}: {value!r} contains a NUL character, which is not text"
        case float() | decimal.Decimal() if not math.isfinite(value):
            return f"{place}: {value} is not {what}; give the column as text"
        case float() | decimal.Decimal() if float(value).is_integer():
            return (
                f"{place}: {value!r} is a floating-point number, and so large that another number could be meant: "
                "give the column as text or whole numbers"
            )
        case float() | decimal.Decimal():
            return f"{place}: {value} has a fraction, so it is not {what}; give the column as text"
        case bool():
            return f"{place}: {value} is a boolean, not {what}; give the column as text"
        case dt.date() | dt.time():
            return f"{place}: {value} is a date or time, not an identifier; give the column as text"
        case _:
            return f"{place}: {value!r} is not text"


def array_of(values: Sequence[object]) -> "pa.Array":
    """Put the Python values of a database driver into an Arrow array, unchanged.

    The values decide the type; :func:`conform` converts it to the column's. Numbers stay numbers only if
    nothing is lost: asked for an integer, pyarrow would make 1 of 1.7. Values of different kinds become text.
    """
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    types = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        dt.date: pa.date32(),
        dt.datetime: pa.timestamp("us"),
        decimal.Decimal: None,
    }
    with contextlib.suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # Not for an integer beyond 64 bits, a decimal beyond 76 digits, text with a lone surrogate.
        if not kinds:
            return pa.array(values, pa.string())
        if len(kinds) == 1 and (kind := kinds.pop()) in types and not _has_time_zone(values):
            return pa.array(values, types[kind])
    return pa.array([as_text(value) for value in values], pa.string())


def first_unidentifiable(values: Sequence[object], float_bits: int = 64) -> int | None:
    """Return the position of the first value that cannot be an identifier, if there is one.

    Args:
        values: Python values of a database driver, which need not be of the same kind.
        float_bits: the size of a float in the database.
    """
    largest = _EXACT_FLOATS[float_bits]
    for position, value in enumerate(values):
        match value:
            case None | str() | bytes():
                continue
            case bool() | dt.date() | dt.time():
                return position
            case float() if not math.isnan(value) and not (value.is_integer() and abs(value) <= largest):
                return position
            case decimal.Decimal() if value.is_finite() and value != value.to_integral_value():
                return position
    return None


def _has_time_zone(values: Sequence[object]) -> bool:
    return any(isinstance(value, dt.datetime) and value.tzinfo is not None for value in values)


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
            return _decimal_as_text(value)
        case dt.datetime():
            if value.tzinfo is not None:  # as from PostgreSQL
                value = value.astimezone(dt.UTC).replace(tzinfo=None)
            return value.isoformat(sep=" ").removesuffix(" 00:00:00")
        case bytes() | bytearray() | memoryview():
            return _bytes_as_text(bytes(value))
        case _:
            return str(value)


def _float_as_text(value: float) -> str | None:
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) <= _EXACT_FLOATS[64] else repr(value)


def _decimal_as_text(value: decimal.Decimal) -> str | None:
    if not value.is_finite():
        return None if value.is_nan() else str(value)
    value = value or abs(value)  # a zero has no sign
    return f"{value:f}" if value != value.to_integral_value() else f"{value.to_integral_value():f}"


def _bytes_as_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _convert(array: "pa.Array", column: OedColumn) -> "pa.Array":
    import pyarrow as pa

    array = _plain(array)
    column_type = column.type
    if column_type is ColumnType.TEXT:
        return _to_text(array, column.content)
    if pa.types.is_decimal(array.type):  # by way of text: the direct cast may be off in the last digit
        array = array.cast(pa.string())
    if column_type is ColumnType.NUMBER:
        return _to_number(array)
    return _to_integer(array, pa.type_for_alias(column_type.value))


def _plain(array: "pa.Array") -> "pa.Array":
    """Return the array without dictionary, extension or 64-bit offsets."""
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _to_text(array: "pa.Array", content: Content) -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        _refuse(pc.any(pc.match_substring(array, "\0")).as_py(), "a NUL")
        return _without_midnight(array) if content is Content.DATE else array
    if pa.types.is_floating(array.type):
        return _float_to_text(_without_nan(array), content)
    if pa.types.is_decimal(array.type):
        return _decimal_to_text(array, content)
    if pa.types.is_boolean(array.type):
        _refuse(content is not Content.FREE and array.null_count < len(array), "a truth value")
        array = array.cast(pa.int8())
    if pa.types.is_temporal(array.type):
        _refuse(content is Content.IDENTIFIER and array.null_count < len(array), "a date or time")
        text = pc.replace_substring_regex(array.cast(pa.string()), r"([.]0+)?Z?$", "")
        return _without_midnight(text)
    return array.cast(pa.string())


def _float_to_text(array: "pa.Array", content: Content) -> "pa.Array":
    """Write whole numbers without a fraction or exponent; refuse others unless the content allows them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    largest = _EXACT_FLOATS[array.type.bit_width]
    array, text = array.cast(pa.float64()), array
    fits = pc.and_(pc.equal(pc.floor(array), array), pc.less_equal(pc.abs(array), pa.scalar(float(largest))))
    _refuse(content is not Content.FREE and pc.all(fits).as_py() is False, "not a whole number that a float holds")
    whole = pc.if_else(fits, array, pa.scalar(None, pa.float64())).cast(pa.int64()).cast(pa.string())
    return whole if pc.all(fits).as_py() in (True, None) else pc.coalesce(whole, text.cast(pa.string()))


def _decimal_to_text(array: "pa.Array", content: Content) -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    text = array.cast(pa.string())
    if pc.any(pc.match_substring(text, "E")).as_py():
        text = pa.array([None if value is None else _decimal_as_text(value) for value in array.to_pylist()])
    text = pc.replace_substring_regex(text, r"[.]0+$", "")
    _refuse(content is not Content.FREE and pc.any(pc.match_substring(text, ".")).as_py(), "a fraction")
    return text


def _without_midnight(text: "pa.Array") -> "pa.Array":
    """Return dates without the midnight that databases and pandas add, as OED requires."""
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring(text, "00:00")).as_py():
        return text
    return pc.replace_substring_regex(text, _MIDNIGHT, r"\1")


def _refuse(does_not_fit: bool | None, reason: str) -> None:
    import pyarrow as pa

    if does_not_fit:
        raise pa.ArrowInvalid(reason)


def _to_number(array: "pa.Array") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        array = _parse(array, pa.float64())
    elif pa.types.is_boolean(array.type):
        _refuse(array.null_count < len(array), "a truth value")
        array = array.cast(pa.int8()).cast(pa.float64())
    elif not pa.types.is_float64(array.type):
        array = array.cast(pa.float64(), safe=False)
    if pc.all(pc.is_finite(array)).as_py() is False:
        array = _without_nan(array)
        if pc.any(pc.is_inf(array)).as_py():
            raise pa.ArrowInvalid("an infinite number")
    return _without_negative_zero(array)


def _without_negative_zero(array: "pa.Array") -> "pa.Array":
    """Drop the sign of -0.0, since some databases and file formats keep it and some do not."""
    import pyarrow.compute as pc

    return pc.add(array, pc.subtract(array, array))  # any scalar or list would make pyarrow load pandas


def _to_integer(array: "pa.Array", integer_type: "pa.DataType") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(array.type):
        _refuse(pc.any(pc.match_substring_regex(array, "[xX]")).as_py(), "hexadecimal, which pyarrow would read")
        try:
            return _parse(array, integer_type)
        except pa.ArrowInvalid:  # "2.0", which a spreadsheet or pandas makes of 2
            array = _parse(array, pa.float64())
    if pa.types.is_floating(array.type):
        array = _without_nan(array)
        largest = pa.scalar(_EXACT_FLOATS[array.type.bit_width], pa.float64())
        _refuse(pc.any(pc.greater(pc.abs(array.cast(pa.float64())), largest)).as_py(), "too large for a float")
    _refuse(pa.types.is_temporal(array.type), "a date or time")
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


def _first_misfit(array: "pa.Array", column: OedColumn) -> tuple[int, object]:
    """Find the first value that cannot be converted, by halving; the array as a whole cannot be converted."""
    import pyarrow as pa

    start, stop = 0, len(array)
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            _convert(array[start:middle], column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            stop = middle
        else:
            start = middle
    return start, array[start].as_py()
