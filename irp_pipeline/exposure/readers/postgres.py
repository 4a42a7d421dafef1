"""Reading a query from PostgreSQL, over ADBC: binary COPY straight into Arrow batches.

The rows and their control totals come from one connection and one REPEATABLE READ READ ONLY transaction, so both are of
the same moment. The query runs as a derived table in a statement that converts PostgreSQL's types to those of OED; a
statement that is not a query is a syntax error there.

COPY takes no parameters. So the values of a query's parameters are bound in a statement before it, which keeps each as
a setting of the transaction, and the query reads the settings.
"""

import datetime as dt
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import ColumnType, Content, OedColumn, OedTable, oed_columns
from irp_pipeline.exposure.places import Places
from irp_pipeline.exposure.readers.conversion import NULL_TEXTS, misfit
from irp_pipeline.exposure.readers.numerals import first_unclear, unclear
from irp_pipeline.exposure.readers.parameters import Value, Values, pieces, without_brackets
from irp_pipeline.exposure.readers.sources import address, without_password
from irp_pipeline.exposure.totals.control_total import BUILDINGS_COLUMN, CONTROL_COLUMNS, MONEY_COLUMNS, ControlTotals
from irp_pipeline.exposure.totals.query import TotalsQueries, wrap

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager.dbapi import Connection
    from sqlalchemy import URL

_CONNECT_TIMEOUT_SECONDS = 10
# The size of the rows that the driver collects for a batch.
_BATCH_BYTES = 16 * 2**20
_TRANSACTION = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    # The same data should come in the same order and give the same file: no parallel workers, no scan that joins
    # another one in the middle of the table. A query's ORDER BY holds either way.
    "SET LOCAL synchronize_seqscans = off",
    "SET LOCAL max_parallel_workers_per_gather = 0",
)
# The sums do not depend on the order of the rows.
_TOTALS_SETTINGS = ("SET LOCAL max_parallel_workers_per_gather TO DEFAULT", "SET LOCAL work_mem = '64MB'")

_TEXT_TYPES = ("text", "varchar")
_INTEGER_TYPES = ("int2", "int4", "int8")
_FLOAT_TYPES = ("float4", "float8")
_DECIMAL_TYPES = ("numeric", "money")
_MIDNIGHT = "' 00:00:00$', ''"
_SETTING = "irp_pipeline.parameter_"
# A truth value is an int to Python.
_TYPES_OF_VALUES = ((bool, "boolean"), (int, "bigint"), (float, "float8"), (dt.date, "date"), (str, "text"))


@contextmanager
def open_query(
    name: str, url: "URL", query: str, table: OedTable, parameters: Values = MappingProxyType({})
) -> "Iterator[PostgresReader]":
    """Connect, and read a query.

    Args:
        name: the source database's name in messages.
        url: its address; the URL's query may contain any parameter of libpq.
        query: one SELECT, without a semicolon at its end; with marks for its parameters.
        table: the OED table that it returns.
        parameters: their values.

    Raises:
        ExposureError: the database cannot be reached, or refuses the query.
    """
    with closing(_connect(name, url)) as connection:
        for statement in _TRANSACTION:
            _execute(connection, statement)
        with _query_errors(f"query on {name}"):
            query = _with_settings(connection, query, parameters)
        yield PostgresReader(connection, f"query on {name}", query, table)


class PostgresReader:
    """A query in an open transaction; see :class:`irp_pipeline.exposure.readers.sources.Reader`."""

    def __init__(self, connection: "Connection", description: str, query: str, table: OedTable) -> None:
        self.description = description
        self.places = Places(description)
        self.reading = "PostgreSQL"
        self._connection = connection
        self._query = query
        with _query_errors(description), closing(connection.cursor()) as cursor:
            statement = f"SELECT * FROM {wrap(query)} AS source"  # noqa: S608 - the user's own query
            schema = cursor.adbc_execute_schema(statement)
        self.columns = oed_columns(table, schema.names, description)
        self._database_types = [((field.metadata or {}).get(b"POSTGRESQL:type") or b"").decode() for field in schema]

    def batches(self) -> "Generator[pa.RecordBatch]":
        """Yield the rows as they come from the server."""
        selected = ", ".join(
            f"{_cast(_quote(column.source_name), database_type, column)} AS {_quote(column.source_name)}"
            for column, database_type in zip(self.columns, self._database_types, strict=True)
        )
        options = {"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)}
        with (
            _query_errors(self.description),
            closing(self._connection.cursor(adbc_stmt_kwargs=options)) as cursor,
        ):
            cursor.execute(f"SELECT {selected} FROM {wrap(self._query)} AS source")  # noqa: S608 - the user's own
            record = 0
            with cursor.fetch_record_batch() as reader:
                for batch in _guarded(reader, self.description):
                    self._check_decimals(batch, record)
                    for column, cells in zip(self.columns, batch.columns, strict=True):
                        if (position := first_unclear(cells, column)) is not None:
                            raise unclear(self.locate(record + position), column, cells[position].as_py())
                    yield batch
                    record += batch.num_rows

    def _check_decimals(self, batch: "pa.RecordBatch", first_record: int) -> None:
        """Refuse fractions in identifiers: decimals come as text."""
        import pyarrow.compute as pc

        for position, (column, database_type) in enumerate(zip(self.columns, self._database_types, strict=True)):
            if column.content is Content.IDENTIFIER and database_type == "numeric" and column.type is ColumnType.TEXT:
                cells = batch.column(position)
                found = pc.index(pc.match_substring(cells, "."), True).as_py()
                if found >= 0:
                    where = self.locate(first_record + found)
                    raise ExposureError(misfit(where, column, Decimal(cells[found].as_py())))

    def locate(self, record: int) -> str:
        """Return where a record is."""
        return self.places.locate(record)

    def totals(self) -> ControlTotals:
        """Return the control totals, computed by the server."""
        for statement in _TOTALS_SETTINGS:
            _execute(self._connection, statement)
        return TotalsQueries(self._control_query(), self.columns, "postgresql").run(self._fetch)

    def _control_query(self) -> str:
        """Return a query for the columns that control totals need, with text ready to be converted to numbers."""
        selected = []
        for column, database_type in zip(self.columns, self._database_types, strict=True):
            name = _quote(column.source_name)
            if column.name in (*MONEY_COLUMNS, BUILDINGS_COLUMN) and database_type in _TEXT_TYPES:
                nulls = ", ".join(f"'{text}'" for text in NULL_TEXTS)
                selected.append(f"CASE WHEN btrim({name}) NOT IN ({nulls}) THEN btrim({name}) END AS {name}")
            elif column.name in CONTROL_COLUMNS:
                selected.append(
                    f"{_whole(name, database_type, column) or _cast(name, database_type, column)} AS {name}"
                )
        return f"SELECT {', '.join(selected)} FROM {wrap(self._query)} AS source"  # noqa: S608 - the user's own query

    def _fetch(self, statement: str) -> list[Any]:
        with _query_errors(self.description), closing(self._connection.cursor()) as cursor:
            cursor.execute(statement)
            return cursor.fetchall()


def _connect(name: str, url: "URL") -> "Connection":
    from adbc_driver_manager import Error
    from adbc_driver_postgresql import dbapi

    try:
        connection: Connection = dbapi.connect(connection_string(url))
    except Error as error:
        raise ExposureError(
            f"cannot reach the source database {name} ({address(url)}): {without_password(str(error), url)}"
        ) from None
    return connection


def connection_string(url: "URL") -> str:
    """Return a URL as libpq's ``keyword=value`` string, which allows any character in a value."""
    from psycopg2.extensions import make_dsn

    def joined(value: str | tuple[str, ...]) -> str:
        return value if isinstance(value, str) else ",".join(value)

    parameters: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "application_name": "irp_pipeline",
        **url.translate_connect_args(database="dbname", username="user"),
        **{key: joined(value) for key, value in url.query.items()},
    }
    return str(make_dsn(**parameters))


def _with_settings(connection: "Connection", query: str, parameters: Values) -> str:
    """Keep the values of a query's parameters as settings of the transaction; return the query, which reads them."""
    parts = pieces(query)
    values: list[Value] = []
    found: dict[str, str] = {}
    for name in dict.fromkeys(parts[1::2]):
        value = parameters[name]
        several = value if isinstance(value, tuple) else (value,)
        read = [_setting(number, item) for number, item in enumerate(several, start=len(values))]
        values += several
        found[name] = f"({', '.join(read)})" if isinstance(value, tuple) else read[0]
    for number, value in enumerate(values):
        with closing(connection.cursor()) as cursor:
            cursor.execute(f"SELECT set_config('{_SETTING}{number}', $1, true)", (_as_setting(value),))
            cursor.fetchall()
    sql = without_brackets(query, [name for name in found if isinstance(parameters[name], tuple)])
    return "".join(found[part] if number % 2 else part for number, part in enumerate(pieces(sql)))


def _setting(number: int, value: Value) -> str:
    """Return the expression for a value that is kept as a setting: of the type that the value has."""
    kind = next(sql for python, sql in _TYPES_OF_VALUES if isinstance(value, python))
    if kind == "bigint" and not -(2**63) <= value < 2**63:  # type: ignore[operator] # it is a whole number
        kind = "numeric"
    return f"current_setting('{_SETTING}{number}')::{kind}"


def _as_setting(value: Value) -> str:
    return value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)


def _execute(connection: "Connection", statement: str) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)


@contextmanager
def _query_errors(description: str) -> Iterator[None]:
    from adbc_driver_manager import Error

    try:
        yield
    except Error as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        raise ExposureError(f"{description}: {_server_message(error)}") from error


def _guarded(reader: "pa.RecordBatchReader", description: str) -> "Iterator[pa.RecordBatch]":
    """Yield the batches of a reader; its errors in the middle of a result are pyarrow's, not ADBC's."""
    import pyarrow as pa

    batches = iter(reader)
    while True:
        try:
            batch = next(batches, None)
        except (OSError, pa.ArrowException) as error:
            if _was_interrupted(error):
                raise KeyboardInterrupt from error
            raise ExposureError(f"{description}: {' '.join(str(error).split())}") from error
        if batch is None:
            return
        yield batch


def _was_interrupted(error: Exception) -> bool:
    """Return whether an error comes from a Ctrl-C: on Ctrl-C, ADBC cancels the query and hides the interrupt."""
    return "canceling statement due to user request" in str(error)


def _server_message(error: Any) -> str:
    """Return the server's message, without the driver's text around it."""
    details = {bytes(key): bytes(value).decode(errors="replace") for key, value in error.details or ()}
    said = [details.get(b"PG_DIAG_MESSAGE_" + part) for part in (b"PRIMARY", b"DETAIL", b"HINT")]
    return ". ".join(part for part in said if part) or " ".join(str(error).split())


def _quote(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _cast(name: str, database_type: str, column: OedColumn) -> str:
    """Return the expression for a column: the server converts what Arrow cannot hold as the OED column.

    Text in a column of numbers stays text, so that a value which is not a number is found with its row. A value that
    cannot be an identifier is not converted, so that it is refused.
    """
    if column.type is ColumnType.TEXT:
        return _cast_to_text(name, database_type, column.content)
    if database_type in (*_TEXT_TYPES, *_INTEGER_TYPES, "float8"):
        return name
    if database_type in _DECIMAL_TYPES:
        return f"{name}::numeric::float8"
    if database_type == "float4":
        return f"{name}::float8"
    if database_type == "bool":
        return name if column.type is ColumnType.NUMBER else f"{name}::int"
    return f"{name}::text"


def _cast_to_text(name: str, database_type: str, content: Content) -> str:
    if database_type in (*_TEXT_TYPES, *_FLOAT_TYPES):
        return name
    if database_type == "numeric":
        return f"CASE WHEN {name} = trunc({name}) THEN trunc(NULLIF({name}, 'NaN'))::text ELSE {name}::text END"
    if content is not Content.FREE and database_type == "bool":
        return name
    if content is Content.IDENTIFIER and database_type in ("date", "timestamp", "timestamptz"):
        return name
    if database_type == "bool":
        return f"{name}::int::text"
    if database_type == "timestamp":
        return f"regexp_replace({name}::text, {_MIDNIGHT})"
    if database_type == "timestamptz":
        return f"regexp_replace(({name} AT TIME ZONE 'UTC')::text, {_MIDNIGHT})"
    return f"{name}::text"


def _whole(name: str, database_type: str, column: OedColumn) -> str | None:
    """Return the expression for an identifier that is a float, as text."""
    if column.type is ColumnType.TEXT and database_type in _FLOAT_TYPES:
        return f"NULLIF({name}, 'NaN')::bigint::text"
    return None
