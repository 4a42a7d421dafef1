"""Transactions, and the connections that the pool lends to single statements.

This module decides when a connection is taken and returned, and what a caller may do in a transaction.
:mod:`irp_pipeline.postgres.connections` makes connections; :mod:`irp_pipeline.postgres.running` runs statements.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from irp_pipeline.postgres.connections import check_alive, clean_connection, get_engine
from irp_pipeline.postgres.context import get_current_schema, this_caller
from irp_pipeline.postgres.cursors import (
    BEGIN,
    LoneCursor,
    SchemaConnection,
    SchemaCursor,
    commit_message,
    must_go_alone,
)
from irp_pipeline.postgres.errors import DatabaseError, database_error, is_disconnect

_R = TypeVar("_R")


@dataclass(slots=True)
class _Lent:
    """A connection that the pool lent to a helper, without SQLAlchemy's usual wrapper."""

    pool: Pool
    entry: ConnectionPoolEntry
    dbapi: SchemaConnection


@dataclass
class _Transaction:
    """The open transaction of one thread or task."""

    lent: _Lent
    schema: str
    owner: tuple[int, int, object]
    broken: bool = False
    session_changed: bool = False


_transaction: ContextVar[_Transaction | None] = ContextVar("irp_transaction", default=None)


def in_transaction() -> bool:
    """Return whether the caller is inside :func:`transaction`."""
    return _transaction.get() is not None


@contextmanager
def transaction() -> Iterator[None]:
    """Make the statements of a ``with`` block one transaction: all of them take effect, or none.

    It belongs to the thread or asyncio task that opened it. An inner ``transaction()`` joins the outer one; if the
    inner block fails, the outer one can no longer commit.

    Raises:
        DatabaseError: it was used from another thread, task or process; the schema changed inside; an inner block
            failed and the outer one continued anyway; the commit failed.
    """
    current = _transaction.get()
    if current is not None:
        _check_transaction(current)
        try:
            yield
        except BaseException:
            current.broken = True
            raise
        return

    lent = _take_connection()
    dbapi = lent.dbapi
    opened = _Transaction(lent, get_current_schema(), _caller())
    token = _transaction.set(opened)
    try:
        if opened.schema not in dbapi.known:
            dbapi.check_schema(opened.schema)
        _say(dbapi, BEGIN)
        try:
            yield
            if not _is_ours(opened):
                raise DatabaseError("A forked process cannot end the transaction of its parent process")
            if opened.broken:
                raise DatabaseError(
                    "The transaction cannot be committed: a transaction() block inside it failed, and its error was "
                    "caught. Nothing was written. Let the error pass, or catch it outside the outer block"
                )
            _check_connected(opened)
            if dbapi.info.transaction_status == TRANSACTION_STATUS_INERROR:
                # COMMIT would roll back and report success.
                raise DatabaseError(
                    "The transaction cannot be committed: a statement in it failed, and its error was caught. Nothing "
                    "was written. Let the error pass, or catch it outside the transaction() block"
                )
            _say(dbapi, commit_message(opened.schema, dbapi.extensions, leave_nothing=opened.session_changed))
        except BaseException:
            _roll_back(opened)
            raise
    except psycopg2.Error as error:
        if is_disconnect(error, dbapi):
            lent.entry.invalidate(error)
        raise database_error(error, dbapi=dbapi) from error
    finally:
        if _is_ours(opened):  # a forked child shares the connection, but its pool does not own it
            _give_back(lent)
        _transaction.reset(token)


def with_cursor(work: Callable[[SchemaCursor | LoneCursor], _R], statement: str, changes_session: bool = False) -> _R:
    """Call ``work`` with a cursor of the caller's open transaction, else of a pooled connection, and return its result.

    (This is a function and not a context manager: on a local socket two generators take as long as the query.)

    Args:
        work: runs the statement and reads what it needs from the cursor. If the statement cannot be part of a
            transaction, ``work`` is called again with a cursor that sends it alone.
        statement: the statement, for the error message.
        changes_session: whether the statement may leave something in the session that the next caller must not find.

    Raises:
        DatabaseError: there is no connection, the schema does not exist, or the server refused the statement.
    """
    current = _transaction.get()
    if current is not None:
        _check_transaction(current)
        current.session_changed = current.session_changed or changes_session
        lent = current.lent
    else:
        lent = _take_connection()
    dbapi = lent.dbapi
    try:
        return work(SchemaCursor(dbapi))
    except psycopg2.Error as error:
        if is_disconnect(error, dbapi):
            lent.entry.invalidate(error)
        elif current is None and must_go_alone(error):
            return _alone(dbapi, work, statement)
        raise database_error(error, statement=statement, dbapi=dbapi) from error
    finally:
        if current is None:
            _give_back(lent)


def _alone(dbapi: SchemaConnection, work: Callable[[LoneCursor], _R], statement: str) -> _R:
    try:
        return cast("_R", dbapi.send_alone(work))
    except psycopg2.Error as error:
        raise database_error(error, statement=statement) from error


def _take_connection() -> _Lent:
    """Take a connection from the pool; replace it if it died while it was idle."""
    pool = get_engine().pool
    try:
        entry: Any = pool._do_get()
        try:
            dbapi: SchemaConnection = entry.get_connection()
            try:
                check_alive(dbapi)
            except psycopg2.Error as error:
                entry.invalidate(error)
                dbapi = entry.get_connection()
        except BaseException:
            pool._do_return_conn(entry)
            raise
    except psycopg2.Error as error:
        raise database_error(error) from error
    except sa.exc.DBAPIError as error:
        raise database_error(error.orig or error) from error
    except sa.exc.TimeoutError as error:
        raise DatabaseError(
            "All connections of the pool are in use, and none became free in time. Close some of them, or raise "
            "IRP_POOL_SIZE"
        ) from error
    return _Lent(pool, entry, dbapi)


def _give_back(lent: _Lent) -> None:
    """Return a connection to the pool: between transactions, with nothing left in its session."""
    dbapi = lent.dbapi
    try:
        if dbapi.closed:
            lent.entry.invalidate()
        elif dbapi.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            clean_connection(dbapi, lent.entry)
        else:
            dbapi.idle_since = time.monotonic()
    finally:
        lent.pool._do_return_conn(lent.entry)


def _say(dbapi: SchemaConnection, command: str) -> None:
    with dbapi.plain_cursor() as cursor:
        cursor.execute(command)


def _caller() -> tuple[int, int, object]:
    """Return what identifies this flow of control: process, thread and asyncio task."""
    return os.getpid(), *this_caller()


def _is_ours(current: _Transaction) -> bool:
    """Return whether this process opened it: a forked child shares the connection and must not use it."""
    return current.owner[0] == os.getpid()


def _is_usable(current: _Transaction) -> bool:
    return _is_ours(current) and not current.lent.dbapi.closed


def _roll_back(current: _Transaction) -> None:
    if _is_usable(current):
        try:
            _say(current.lent.dbapi, "ROLLBACK")
        except psycopg2.Error as error:
            current.lent.entry.invalidate(error)  # what was not committed is gone with the connection


def _check_connected(current: _Transaction) -> None:
    if not _is_usable(current):
        raise DatabaseError(
            "The connection was lost in the middle of a transaction, and nothing of it was written. Start the "
            "transaction() again",
            disconnected=True,
        )


def _check_transaction(current: _Transaction) -> None:
    if current.owner != _caller():
        raise DatabaseError(
            "A transaction belongs to the thread or task that opened it, and this is another one. Open a separate "
            "transaction() here, or do the work in the thread or task that opened it"
        )
    schema = get_current_schema()
    if current.schema != schema:
        raise DatabaseError(
            f"A transaction in schema {current.schema!r} is open: nothing can be done in schema {schema!r} inside "
            "it. End the transaction first"
        )
    _check_connected(current)
