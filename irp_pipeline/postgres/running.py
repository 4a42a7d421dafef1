"""Running SQL in the caller's schema.

Every function takes its schema from :mod:`irp_pipeline.postgres.context`; ``schema=`` names another for one call.
Placeholders are the driver's ``%s``. Values are in a tuple or a list and may be anything that a DataFrame cell can hold
(see :mod:`irp_pipeline.postgres.parameters`). :mod:`irp_pipeline.postgres.connections` makes connections, and
:mod:`irp_pipeline.postgres.cursors` sends the schema with each statement. Notebooks import these functions from
:mod:`irp_pipeline.helpers.database`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, TypeVar

from irp_pipeline.postgres import parameters, statements, transactions
from irp_pipeline.postgres.context import schema_argument, schema_context
from irp_pipeline.postgres.cursors import LoneCursor, SchemaCursor, refuse_in_helper
from irp_pipeline.postgres.errors import DatabaseError

if TYPE_CHECKING:
    import pandas as pd

    Cursor = SchemaCursor | LoneCursor

_R = TypeVar("_R")

_BULK_ROWS_PER_STATEMENT = 1000
_NO_FORM_IN_SQL = (ValueError, TypeError, RecursionError)


def execute_query(query: str, params: Sequence[Any] | None = None, schema: str | None = None) -> pd.DataFrame:
    """Run a query and return its rows as a DataFrame.

    Args:
        query: SQL with ``%s`` placeholders.
        params: one value for each placeholder.
        schema: the schema for this call; None means the context.

    Returns:
        One column for each column of the query, NUMERIC as float; empty and without columns if the statement does
        not return rows.

    Raises:
        DatabaseError: the database refused the statement or is away, or the schema does not exist.
        TypeError: ``params`` is not a tuple or a list.
    """
    import pandas as pd

    def read(cursor: Cursor) -> pd.DataFrame:
        if cursor.description is None:
            return pd.DataFrame()
        return pd.DataFrame.from_records(cursor.fetchall(), columns=_names(cursor), coerce_float=True)

    return _run(read, query, params, schema)


def execute_scalar(query: str, params: Sequence[Any] | None = None, schema: str | None = None) -> Any:
    """Run a query and return the first column of its first row, or None if there is no row.

    Args and errors as for :func:`execute_query`.
    """
    row = _run(_first_row, query, params, schema)
    return row[0] if row else None


def fetch_one(query: str, params: Sequence[Any] | None = None, schema: str | None = None) -> dict[str, Any] | None:
    """Run a query and return its first row as a dict of plain Python values, or None if there is no row.

    Args and errors as for :func:`execute_query`.
    """
    return _run(_first_row_as_dict, query, params, schema)


def fetch_all(query: str, params: Sequence[Any] | None = None, schema: str | None = None) -> list[dict[str, Any]]:
    """Run a query and return its rows as dicts of plain Python values.

    Args and errors as for :func:`execute_query`.
    """
    return _run(_rows_as_dicts, query, params, schema)


def copy_out(query: str, params: Sequence[Any] | None, file: IO[bytes], schema: str | None = None) -> None:
    """Write the rows of a query into a file, as CSV with a header. However many there are, none is held in memory.

    Args:
        query: a query with ``%s`` placeholders.
        params: one value for each placeholder.
        file: what is written to.
        schema: the schema for this call; None means the context.

    Raises:
        DatabaseError, TypeError: as for :func:`execute_query`.
    """
    if schema is not None:
        with schema_context(schema):
            return copy_out(query, params, file)
    statement = _parse(query)
    values = _bind(statement, params)

    def copy(cursor: Cursor) -> None:
        rows = cursor.mogrify(statement.text, values) if values else statement.source.encode()
        cursor.copy_expert(f"COPY ({rows.decode()}) TO STDOUT WITH (FORMAT csv, HEADER)", file)

    return transactions.with_cursor(copy, query)


def execute_command(query: str, params: Sequence[Any] | None = None, schema: str | None = None) -> int:
    """Run a statement and return how many rows it affected; 0 if it affects none, such as DDL.

    Args and errors as for :func:`execute_query`.
    """
    return _run(_rows_affected, query, params, schema)


def execute_insert(query: str, params: Sequence[Any] | None = None, schema: str | None = None) -> Any:
    """Run an INSERT and return the id of the new row.

    Args:
        query: an INSERT; ``RETURNING id`` is added unless it has a RETURNING clause.
        params: one value for each placeholder.
        schema: the schema for this call; None means the context.

    Returns:
        The first column that the statement returns, usually the id; None if ON CONFLICT DO NOTHING inserted nothing.

    Raises:
        DatabaseError, TypeError: as for :func:`execute_query`.
    """
    return execute_scalar(statements.with_returned_id(query).source, params, schema)


def find_or_insert(find: str, key: Sequence[Any], insert: str, values: Sequence[Any]) -> Any:
    """Return the id of a row, inserting the row if it is missing. Safe for any number of callers at once.

    Args:
        find: a query for the id.
        key: its values.
        insert: an ``INSERT … ON CONFLICT DO NOTHING RETURNING id`` of the row that ``find`` looks for.
        values: its values.

    Returns:
        The id; None if another caller inserted the row and it was deleted at once.

    Raises:
        DatabaseError: as for :func:`execute_query`.
    """
    found = execute_scalar(find, key)
    if found is None:
        found = execute_scalar(insert, values)
    if found is None:  # another caller was faster
        found = execute_scalar(find, key)
    return found


def bulk_insert(
    query: str,
    params_list: Iterable[Sequence[Any]],
    jsonb_columns: Iterable[str | int] | None = None,
    schema: str | None = None,
) -> list[int]:
    """Insert many rows in one transaction and return their ids in order.

    Args:
        query: ``INSERT INTO table (columns) VALUES (%s, …)`` with one row; ON CONFLICT and RETURNING may follow.
        params_list: the values of each row, as any iterable: the rows of a generator are never all held in memory.
        jsonb_columns: columns whose lists and scalars are JSON rather than arrays, by name or by the position of their
            value in a row from 0. Dicts are always JSON.
        schema: the schema for this call; None means the context.

    Returns:
        The first returned column of each row, in the order of ``params_list``, without the rows that ON CONFLICT DO
        NOTHING left out.

    Raises:
        DatabaseError: as for :func:`execute_query`, or the statement does not have that form. No row is inserted then.
        TypeError: a row is not a tuple or a list.
        ValueError: ``jsonb_columns`` names a column that the statement does not fill.
    """
    template = statements.row_template(query)
    if template is None:
        raise DatabaseError(
            "bulk_insert needs INSERT … VALUES (…) with one row that contains every placeholder", statement=query
        )
    statement = _parse(query)
    jsonb = parameters.jsonb_positions(jsonb_columns, template.columns, statement.placeholders)
    head, tail = template.head.encode(), template.tail.encode()
    ids: list[int] = []
    rows = iter(params_list)

    def insert_all(cursor: Cursor) -> None:
        while page := list(islice(rows, _BULK_ROWS_PER_STATEMENT)):
            bound = [_bind(statement, row, jsonb) for row in page]
            try:
                rendered = b",".join([cursor.mogrify(template.row, row) for row in bound])
            except _NO_FORM_IN_SQL as error:
                row = next((row for row in page if parameters.unstorable_parameter(row)), page[0])
                raise _unsendable_value(error, query, row, template.columns) from error
            cursor.send(head + rendered + tail)
            ids.extend([row[0] for row in cursor.fetchall()])

    with transaction(schema):
        transactions.with_cursor(insert_all, query)
    return ids


@contextmanager
def transaction(schema: str | None = None) -> Iterator[None]:
    """Make the statements of a ``with`` block one transaction: all of them take effect, or none.

    It belongs to the thread or asyncio task that opened it. An inner ``transaction()`` joins the outer one; if the
    inner block fails, the outer one can no longer commit.

    Args:
        schema: the schema of the whole block; None means the context.

    Raises:
        DatabaseError: it was used from another thread, task or process; the schema changed inside; an inner block
            failed and the outer one continued anyway; the commit failed.
    """
    with schema_argument(schema), transactions.transaction():
        yield


def _run(work: Callable[[Cursor], _R], query: str, params: Sequence[Any] | None, schema: str | None) -> _R:
    """Run a statement and return what ``work`` reads from its cursor."""
    if schema is not None:
        with schema_context(schema):
            return _run(work, query, params, None)
    statement = _parse(query)
    values = _bind(statement, params)
    if statement.controls_transaction or statement.makes_temporary:
        refuse_in_helper(statement, transactions.in_transaction())

    def run(cursor: Cursor) -> _R:
        try:
            cursor.run(statement, values)
        except _NO_FORM_IN_SQL as error:
            raise _unsendable_value(error, query, params or ()) from error
        return work(cursor)

    return transactions.with_cursor(run, query, statement.changes_session)


def _first_row(cursor: Cursor) -> tuple[Any, ...] | None:
    return cursor.fetchone() if cursor.description else None


def _first_row_as_dict(cursor: Cursor) -> dict[str, Any] | None:
    row = _first_row(cursor)
    return dict(zip(_names(cursor), row, strict=True)) if row else None


def _rows_as_dicts(cursor: Cursor) -> list[dict[str, Any]]:
    if cursor.description is None:
        return []
    names = _names(cursor)
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _rows_affected(cursor: Cursor) -> int:
    return max(cursor.rowcount, 0)


def _bind(
    statement: statements.Statement, params: Sequence[Any] | None, jsonb: frozenset[int] = frozenset()
) -> tuple[Any, ...]:
    values = params if type(params) is tuple else parameters.check_values(params)
    if len(values) != statement.placeholders:
        raise DatabaseError(
            f"The numbers of placeholders ({statement.placeholders}) and values ({len(values)}) differ",
            statement=statement.source,
        )
    return parameters.bind_all(values, jsonb)


def _parse(query: str) -> statements.Statement:
    """Parse a statement that is going to run; refuse a NUL, at which the driver would cut it off and run the rest."""
    if "\x00" in query:
        raise DatabaseError("A statement cannot contain a NUL character", statement=query.replace("\x00", "\\x00"))
    return statements.parse(query)


def _unsendable_value(
    error: Exception, query: str, values: Sequence[Any], columns: Sequence[str] = ()
) -> DatabaseError:
    """Return our error for a value that SQL cannot express: a NUL, a lone surrogate, an object in a JSON document."""
    found = parameters.unstorable_parameter(values, columns)
    return DatabaseError(f"A value cannot be sent to PostgreSQL: {found or error}", statement=query)


def _names(cursor: Cursor) -> list[str]:
    return [column.name for column in cursor.description or ()]
