"""Reading a query from any database that SQLAlchemy reaches, with a server-side cursor.

PostgreSQL has a faster way, in :mod:`~irp_pipeline.exposure.readers.postgres`. MySQL, MariaDB and SQLite show one
moment in a read-only transaction, and compute their control totals themselves. Any other database is asked for the rows
a second time, in the same transaction, and they are added up here. Nothing is ever committed.

MySQL and MariaDB return a FLOAT (single precision) with only six digits. The control totals detect this, and an
identifier that is a FLOAT is refused. The remedy is a DOUBLE or DECIMAL column, or ``CAST(… AS DOUBLE)`` in the query.

:mod:`~irp_pipeline.exposure.readers.dialects` has what differs from one kind of database to the next.
"""

import datetime as dt
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure import ExposureError
from irp_pipeline.exposure.oed import ColumnType, Content, OedColumn, OedTable, oed_columns
from irp_pipeline.exposure.places import Places
from irp_pipeline.exposure.readers.conversion import array_of, conform, first_unidentifiable, misfit
from irp_pipeline.exposure.readers.dialects import dialect_of
from irp_pipeline.exposure.readers.numerals import first_unclear, unclear
from irp_pipeline.exposure.readers.parameters import Value, Values, is_marked, pieces, without_brackets
from irp_pipeline.exposure.readers.sources import address, without_password
from irp_pipeline.exposure.totals.control_total import CONTROL_COLUMNS, ControlTotals, TotalsAccumulator
from irp_pipeline.exposure.totals.query import DIALECTS, TotalsQueries, wrap

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import URL, Connection, CursorResult, Engine, TextClause
    from sqlalchemy.exc import DBAPIError

_BATCH_ROWS = 10_000
# Before the name of each parameter, so that none is a reserved word of the database.
_BOUND = "irp_"
_MYSQL = ("mysql", "mariadb")
# Type numbers of the MySQL protocol, as its drivers return them.
_MYSQL_FLOAT = 4
_MYSQL_NUMERIC = (0, 4, 5, 246)


@contextmanager
def open_query(
    name: str, url: "URL", query: str, table: OedTable, parameters: Values = MappingProxyType({})
) -> "Iterator[DatabaseReader]":
    """Connect, and read a query.

    Args:
        name: the source database's name in messages.
        url: its address.
        query: one SELECT, without a semicolon at its end; with marks for its parameters.
        table: the OED table that it returns.
        parameters: their values.

    Raises:
        ExposureError: the Python package for the database is not installed, the database cannot be reached, or it
            refuses the query.
    """
    from sqlalchemy.exc import DBAPIError

    engine = _engine(name, url)
    try:
        with _connect(name, engine) as connection:
            try:
                dialect = dialect_of(engine.dialect.name)
                if problem := dialect.problem(query):
                    raise ExposureError(f"query on {name}: {problem}")
                try:
                    reading = dialect.begin(connection)
                except DBAPIError as error:
                    message = _driver_message(error, engine.url)
                    raise ExposureError(f"the source database {name} begins no transaction: {message}") from error
                yield DatabaseReader(connection, f"query on {name}", query, table, parameters, reading)
            except BaseException:
                # Cut off, not closed: closing a cursor in the middle of a result would first read the rest of it.
                connection.invalidate()
                raise
            connection.rollback()
    finally:
        engine.dispose()


class DatabaseReader:
    """A query on an open connection; see :class:`irp_pipeline.exposure.readers.sources.Reader`."""

    def __init__(
        self,
        connection: "Connection",
        description: str,
        query: str,
        table: OedTable,
        parameters: Values = MappingProxyType({}),
        reading: str = "",
    ) -> None:
        self.description = description
        self.places = Places(description)
        self.reading = reading or connection.dialect.name
        self._connection = connection
        self._dialect_name = connection.dialect.name
        self._query = query
        self._table = table
        self._parameters = parameters
        self._dialect = dialect_of(connection.dialect.name)
        self._started: CursorResult[Any] | None = None
        self._numeric: frozenset[str] = frozenset()
        self.columns = oed_columns(table, self._column_names(), description)

    def batches(self) -> "Generator[pa.RecordBatch]":
        """The rows, in batches of 10,000."""
        return self._batches(range(len(self.columns)))

    def locate(self, record: int) -> str:
        """Return where a record is."""
        return self.places.locate(record)

    def totals(self) -> ControlTotals:
        """Return the control totals, computed by the database if it is known to do so exactly."""
        if self._dialect_name not in DIALECTS:
            return self._totals_of_rows()
        return TotalsQueries(self._query, self.columns, self._dialect_name, self._numeric).run(self._fetch)

    def _totals_of_rows(self) -> ControlTotals:
        positions = [number for number, column in enumerate(self.columns) if column.name in CONTROL_COLUMNS]
        columns = [self.columns[position] for position in positions]
        accumulator, record = TotalsAccumulator(), 0
        for batch in self._batches(positions):
            accumulator.add(conform(batch, columns, record, self.locate))
            record += batch.num_rows
        return accumulator.totals()

    def _column_names(self) -> list[str]:
        """Return the names of the result's columns; without running the query if derived tables are known to work."""
        if self._dialect_name in DIALECTS:
            statement = f"SELECT * FROM {wrap(self._query)} AS source WHERE 1 = 0"  # noqa: S608 - the user's own query
            with self._run(statement) as result:
                return self._described(result)
        self._started = self._execute(self._query)
        return self._described(self._started)

    def _described(self, result: "CursorResult[Any]") -> list[str]:
        """Return the names of the columns; note which of them are floats or decimals, if the driver says so.

        Raises:
            ExposureError: an identifier is a FLOAT of MySQL or MariaDB.
        """
        names = list(result.keys())
        if self._dialect_name in _MYSQL and result.cursor is not None:
            kinds = {name: described[1] for name, described in zip(names, result.cursor.description, strict=True)}
            self._numeric = frozenset(name for name, kind in kinds.items() if kind in _MYSQL_NUMERIC)
            for column in oed_columns(self._table, names, self.description):
                if kinds[column.source_name] == _MYSQL_FLOAT and column.content is Content.IDENTIFIER:
                    raise ExposureError(
                        f"{self.description}, column {column.name}: is a FLOAT, of which the database returns only six "
                        f"digits. Read it as text: CAST(CAST({column.source_name} AS DECIMAL(20)) AS CHAR)"
                    )
        return names

    def _batches(self, positions: Sequence[int]) -> "Generator[pa.RecordBatch]":
        import pyarrow as pa

        names = [self.columns[position].source_name for position in positions]
        with self._run(self._query) as result:
            # SQLite renames a column that occurs twice in a derived table.
            oed_columns(self._table, result.keys(), self.description)
            record = 0
            description = result.cursor.description if result.cursor is not None else ()
            padded, single = self._dialect.padded(description), self._dialect.single_precision(description)
            for rows in result.partitions(_BATCH_ROWS):
                values: list[Sequence[Any]] = list(zip(*rows, strict=True))
                for position in padded:
                    values[position] = [
                        cell.rstrip(" ") if isinstance(cell, str) else cell for cell in values[position]
                    ]
                for position in positions:
                    self._check_identifiers(self.columns[position], values[position], record, position in single)
                    if (found := first_unclear(values[position], self.columns[position])) is not None:
                        text = values[position][found]
                        raise unclear(self.locate(record + found), self.columns[position], text)
                yield pa.RecordBatch.from_arrays([array_of(values[position]) for position in positions], names)
                record += len(rows)

    def _check_identifiers(
        self, column: OedColumn, values: Sequence[object], first_record: int, is_single: bool
    ) -> None:
        """Refuse values that cannot be identifiers, where :func:`conform` would not.

        That is if a column mixes values of several kinds, as SQLite allows, or has a kind that Arrow lacks, or floats
        of single precision: the drivers deliver all floats as those of double precision.
        """
        if column.type is not ColumnType.TEXT or column.content is not Content.IDENTIFIER:
            return
        if len(kinds := set(map(type, values))) > 1 or kinds & {dt.datetime, dt.time} or is_single:
            position = first_unidentifiable(values, 32 if is_single else 64)
            if position is not None:
                raise ExposureError(misfit(self.locate(first_record + position), column, values[position]))

    def _fetch(self, statement: str) -> list[Any]:
        with self._run(statement) as result:
            return list(result)

    @contextmanager
    def _run(self, statement: str) -> "Iterator[CursorResult[Any]]":
        """Run a statement, or continue the query that was started to get its columns."""
        from sqlalchemy.exc import DBAPIError

        result, self._started = self._started or self._execute(statement), None
        try:
            yield result
        except DBAPIError as error:
            raise self._refusal(error) from error
        result.close()

    def _execute(self, statement: str) -> "CursorResult[Any]":
        from sqlalchemy.exc import DBAPIError

        options = {"stream_results": True, "max_row_buffer": _BATCH_ROWS}
        try:
            if is_marked(statement):
                return self._connection.execute(self._bound(statement), execution_options=options)
            # Without parameters, the drivers do not interpret a per cent sign in the statement.
            return self._connection.exec_driver_sql(statement, execution_options={**options, "no_parameters": True})
        except DBAPIError as error:
            raise self._refusal(error) from error

    def _bound(self, statement: str) -> "TextClause":
        """Return a statement with its parameters bound; SQLAlchemy writes them as the driver reads them."""
        import sqlalchemy as sa

        several = [name for name, value in self._parameters.items() if isinstance(value, tuple)]
        parts = pieces(without_brackets(statement, several))
        # A backslash before a colon tells SQLAlchemy that it is one.
        sql = "".join(
            f":{_BOUND}{part}" if number % 2 else part.replace(":", "\\:") for number, part in enumerate(parts)
        )
        bound: list[sa.BindParameter[Any]] = [
            sa.bindparam(f"{_BOUND}{name}", self._value(self._parameters[name]), expanding=name in several)
            for name in dict.fromkeys(parts[1::2])
        ]
        return sa.text(sql).bindparams(*bound)

    def _value(self, value: "Value | tuple[Value, ...]") -> Any:
        """Return a value as the database's driver takes it."""
        if isinstance(value, tuple):
            return [self._value(item) for item in value]
        return int(value) if isinstance(value, bool) and not self._dialect.has_booleans else value

    def _refusal(self, error: "DBAPIError") -> ExposureError:
        return ExposureError(f"{self.description}: {_driver_message(error, self._connection.engine.url)}")


def _engine(name: str, url: "URL") -> "Engine":
    import sqlalchemy as sa
    from sqlalchemy.exc import NoSuchModuleError

    dialect = dialect_of(url.get_backend_name())
    if problem := dialect.file_problem(url):
        raise ExposureError(f"the source database {name} is {problem}")
    if url.drivername in dialect.driver_of:
        url = url.set(drivername=dialect.driver_of[url.drivername])
    url = dialect.completed(url)
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, **dialect.engine_options(url))
    except ModuleNotFoundError as error:
        extra = f": pip install 'irp-pipeline[{dialect.extra}]'" if dialect.extra else ""
        raise ExposureError(
            f"the source database {name} ({url.drivername}) needs the Python package {error.name}, "
            f"which is not installed{extra}"
        ) from error
    except ImportError as error:  # a library of the machine is missing
        said = " ".join(str(error).split())
        raise ExposureError(
            f"the source database {name} ({url.drivername}): {said}. {dialect.libraries}".rstrip()
        ) from error
    except NoSuchModuleError as error:
        raise ExposureError(
            f"the source database {name}: SQLAlchemy knows no database {url.drivername!r}. "
            "Perhaps the package for it is not installed."
        ) from error
    dialect.prepare(engine)
    return engine


def _connect(name: str, engine: "Engine") -> "Connection":
    from sqlalchemy.exc import DBAPIError

    try:
        return engine.connect()
    except DBAPIError as error:
        raise ExposureError(
            f"cannot reach the source database {name} ({address(engine.url)}): {_driver_message(error, engine.url)}"
            f"{dialect_of(engine.dialect.name).hint(str(error.orig))}"
        ) from None


def _driver_message(error: "DBAPIError", url: "URL") -> str:
    """Return the driver's message: the last of its arguments, which often begin with a number."""
    said = error.orig.args[-1] if error.orig is not None and error.orig.args else error
    return without_password(str(said), url)
