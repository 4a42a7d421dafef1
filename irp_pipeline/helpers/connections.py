"""The engine, and the promise that each of its connections works in its caller's schema.

The search path is set when a connection leaves the pool, before any BEGIN, whoever asks for it: the helpers,
``get_engine().connect()``, or pandas. There a ``SET`` is in no transaction, so no ROLLBACK undoes it. A connection
remembers its path, and only a different one costs a round trip.

The search path holds the caller's schema and, if ``IRP_EXTENSIONS_SCHEMA`` is set, that one behind it. It never falls
through to ``public``: a schema that does not exist is an error.

Here belong connections, transactions and errors. Statements are run in :mod:`irp_pipeline.helpers.database`.
"""

import asyncio
import functools
import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR
from psycopg2.extensions import connection as DriverConnection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.db_context import get_current_schema

_R = TypeVar("_R")

_IDLE_SECONDS_BEFORE_TEST: Final = 1.0
_STATEMENT_CHARACTERS_SHOWN: Final = 2000

_SET_PATH = """
SELECT set_config('search_path', %(path)s, false),
       EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s)
"""
_EXTENSIONS_CHECK = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s),
       (SELECT min(tablename) FROM pg_catalog.pg_tables WHERE schemaname = %(schema)s AND tablename LIKE 'irp\\_%%')
"""

_UNDEFINED_TABLE = "42P01"
_INVALID_SCHEMA_NAME = "3F000"
_DATA_EXCEPTION_CLASS = "22"
_SYNTAX_ERROR = "42601"
_QUOTED_VALUE = re.compile(r'".*"', re.DOTALL)


class DatabaseError(IrpError):
    """The database could not be reached, or refused a statement.

    The message has no parameter values and no password in it. The driver's own error is the ``__cause__``.

    Attributes:
        sqlstate: the five characters of the SQLSTATE, or None if the server said nothing.
        statement: the statement as it was written, with its placeholders, or None.
        disconnected: the server was away or went away, so that the same call may succeed later. Whether a statement
            took effect that was under way then is unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        statement: str | None = None,
        disconnected: bool = False,
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.statement = statement
        self.disconnected = disconnected

    def __str__(self) -> str:
        parts = [super().__str__()]
        if self.sqlstate:
            parts.append(f"SQLSTATE: {self.sqlstate}")
        if self.statement:
            shown = self.statement.strip()
            if len(shown) > _STATEMENT_CHARACTERS_SHOWN:
                shown = shown[:_STATEMENT_CHARACTERS_SHOWN] + " …"
            parts.append(f"Statement: {shown}")
        return "\n".join(parts)


# --- the engine ---------------------------------------------------------------------------------------------------

_engine: sa.Engine | None = None
_engine_lock = threading.Lock()


def get_engine() -> sa.Engine:
    """Return the process's one SQLAlchemy engine, made at the first call.

    It is in AUTOCOMMIT: each statement is its own transaction unless :func:`transaction` or SQLAlchemy's own
    ``begin()`` on a connection with another isolation level says otherwise. Every connection from it works in the
    schema of whoever asks, at the moment of asking.

    Raises:
        SettingsError: the environment names no usable database.
        EmbeddedServerError: the embedded server does not start.
    """
    engine = _engine
    return engine if engine is not None else _make_engine()


def dispose_engine() -> None:
    """Close the idle connections and forget the engine: the next call reads the settings anew."""
    global _engine
    with _engine_lock:
        engine, _engine = _engine, None
    if engine is not None:
        engine.dispose()


def _make_engine() -> sa.Engine:
    global _engine
    from irp_pipeline import settings

    with _engine_lock:
        if _engine is None:
            engine = sa.create_engine(
                settings.database_url(),
                isolation_level="AUTOCOMMIT",
                pool_size=settings.pool_size(),
                pool_use_lifo=True,
                pool_reset_on_return=None,  # _connection_given_back does it, without a call where none is needed
                connect_args=_connect_arguments(),
            )
            taken = functools.partial(_connection_taken, extensions=settings.extensions_schema())
            sa.event.listen(engine, "do_connect", _start_embedded_server)
            sa.event.listen(engine, "connect", _connection_made)
            sa.event.listen(engine, "checkout", taken)
            sa.event.listen(engine, "checkin", _connection_given_back)
            _engine = engine
        return _engine


def _forget_engine_in_child() -> None:
    """A forked child shares the sockets of its parent: it leaves them alone, open, and makes its own."""
    global _engine_lock
    _engine_lock = threading.Lock()
    if _engine is not None:
        _engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_engine_in_child)


@contextmanager
def administrative_connection() -> Iterator[sa.Connection]:
    """Yield a connection of its own, outside the pool and with the server's default search path.

    It is for what comes before a schema exists: creating, migrating and dropping one. Every name in its statements
    must be qualified.

    Raises:
        DatabaseError: no connection to the server.
    """
    from irp_pipeline import settings

    engine = sa.create_engine(settings.database_url(), poolclass=NullPool, connect_args=_connect_arguments())
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        cause = error.orig if isinstance(error.orig, psycopg2.Error) else error
        raise database_error(cause, statement=error.statement) from error


def _connect_arguments() -> dict[str, Any]:
    from irp_pipeline import settings

    return {
        "connect_timeout": settings.connect_timeout_seconds(),
        "tcp_user_timeout": 1000 * settings.connect_timeout_seconds(),  # for a network that goes away silently
        "client_encoding": "utf8",
        "application_name": "irp_pipeline",
        "keepalives_idle": 60,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }


# --- what happens to a connection ---------------------------------------------------------------------------------


def _start_embedded_server(*_: object) -> None:
    """Before a new connection: an embedded server that was stopped meanwhile is started again."""
    from irp_pipeline import settings

    if settings.database_source() == "embedded":
        settings.database_url()


def _connection_made(dbapi: DriverConnection, entry: ConnectionPoolEntry) -> None:
    dbapi.autocommit = True
    entry.info["process"] = os.getpid()
    _prepare_session(dbapi)


def _prepare_session(dbapi: DriverConnection) -> None:
    with dbapi.cursor() as cursor:
        # Times come back in one offset, whatever the server's zone and its summer time. What waits for a lock must
        # then see what the other wrote, whatever the server's default.
        cursor.execute("SET TIME ZONE 'UTC'; SET default_transaction_isolation = 'read committed'")


def _connection_taken(
    dbapi: DriverConnection, entry: ConnectionPoolEntry, _: PoolProxiedConnection, extensions: str | None
) -> None:
    schema = get_current_schema()
    info = entry.info
    try:
        if info.get("schema") != schema:
            info.pop("schema", None)
            _set_search_path(dbapi, schema, extensions, info.setdefault("schemas_seen", set()))
            info["schema"] = schema
        elif _may_be_dead(dbapi, info.get("idle_since")):
            with dbapi.cursor() as cursor:
                cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        if is_disconnect(error, dbapi):
            # One dead connection means that the others of the pool died with it.
            raise sa.exc.InvalidatePoolError from error
        raise


def _connection_given_back(dbapi: DriverConnection | None, entry: ConnectionPoolEntry) -> None:
    info = entry.info
    if dbapi is None or dbapi.closed or info.get("process") != os.getpid():
        return
    session_kept = info.pop("session_kept", False)
    if not session_kept or dbapi.get_transaction_status() != TRANSACTION_STATUS_IDLE:
        info.pop("schema", None)
        try:
            _restore_session(dbapi)
        except psycopg2.Error as error:
            entry.invalidate(error)
            return
    info["idle_since"] = time.monotonic()


def _restore_session(dbapi: DriverConnection) -> None:
    """Undo whatever a caller did to a connection that it had for itself.

    That is a BEGIN without an end, which the next caller would find itself inside, and anything that SET, PREPARE,
    LISTEN or a temporary table (it would hide a table of the next caller's schema) leaves behind.
    """
    if dbapi.info.transaction_status != TRANSACTION_STATUS_IDLE:
        with dbapi.cursor() as cursor:
            cursor.execute("ROLLBACK")
    dbapi.reset()
    dbapi.autocommit = True
    _prepare_session(dbapi)


def _may_be_dead(dbapi: DriverConnection, idle_since: float | None) -> bool:
    """Tell whether a connection should be tested before use.

    A server that goes away closes the socket, and an idle socket with something to read is a closed one (or one
    with a notice, which costs a test for nothing). A network that went away says nothing: after a second, ask.
    """
    if idle_since is None:
        return False
    if time.monotonic() - idle_since > _IDLE_SECONDS_BEFORE_TEST:
        return True
    poll = select.poll()
    poll.register(dbapi.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _set_search_path(dbapi: DriverConnection, schema: str, extensions: str | None, seen: set[str]) -> None:
    path = ", ".join(quote_identifier(name) for name in (schema, extensions) if name)
    with dbapi.cursor() as cursor:
        if schema in seen:  # looking again would take the server as long as a query of the caller's
            cursor.execute(f"SET search_path TO {path}")
            return
        cursor.execute(_SET_PATH, {"path": path, "schema": schema})
        _, exists = cursor.fetchone() or (None, False)
        if not exists:
            raise missing_schema(schema)
        if extensions and extensions != schema:
            cursor.execute(_EXTENSIONS_CHECK, {"schema": extensions})
            extensions_exist, table = cursor.fetchone() or (False, None)
            if not extensions_exist:
                raise DatabaseError(
                    f"IRP_EXTENSIONS_SCHEMA names the schema {extensions!r}, which does not exist: create it or "
                    "correct the variable"
                )
            if table:
                raise DatabaseError(
                    f"IRP_EXTENSIONS_SCHEMA names the schema {extensions!r}, which holds the table {table}: a schema "
                    "for extensions must hold no irp_* table, or other schemas would fall through to it"
                )
        seen.add(schema)


def missing_schema(schema: str) -> DatabaseError:
    """Return the error for a schema that is not there."""
    return DatabaseError(
        f"The schema {schema!r} does not exist in this database. To make it, run: {_init_command(schema)}",
        sqlstate=_INVALID_SCHEMA_NAME,
    )


def _init_command(schema: str) -> str:
    import shlex

    return f"irp db init --db-schema {shlex.quote(schema)}"


def quote_identifier(name: str) -> str:
    """Return ``name`` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


# --- transactions and cursors -------------------------------------------------------------------------------------


@dataclass
class _Transaction:
    """The open transaction of one thread or task."""

    connection: PoolProxiedConnection
    schema: str
    owner: tuple[int, int, object]
    broken: bool = False
    session_kept: bool = True


_transaction: ContextVar[_Transaction | None] = ContextVar("irp_transaction", default=None)


def in_transaction() -> bool:
    """Tell whether the caller is inside :func:`transaction`."""
    return _transaction.get() is not None


@contextmanager
def transaction() -> Iterator[None]:
    """Make the statements of a ``with`` block one transaction: all of them take effect, or none.

    It belongs to the thread or asyncio task that opened it. An inner ``transaction()`` joins the outer one; if the
    inner block fails, the outer one can no longer commit.

    Raises:
        DatabaseError: used from another thread, task or process; the schema changed inside; an inner block failed
            and the outer one went on all the same; the commit failed.
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

    connection = _take_connection()
    dbapi = _dbapi(connection)
    opened = _Transaction(connection, get_current_schema(), _caller())
    token = _transaction.set(opened)
    try:
        dbapi.autocommit = False
        try:
            yield
            if not _is_ours(opened):
                raise DatabaseError("A forked process cannot end the transaction of the one that it came from")
            if opened.broken:
                raise DatabaseError(
                    "The transaction cannot be committed: a transaction() block inside it failed, and its error was "
                    "caught. Nothing was written. Let the error pass, or catch it outside the outer block"
                )
            _check_connected(opened)
            if dbapi.info.transaction_status == TRANSACTION_STATUS_INERROR:
                # COMMIT would roll back, and call that a success.
                raise DatabaseError(
                    "The transaction cannot be committed: a statement in it failed, and its error was caught. Nothing "
                    "was written. Let the error pass, or catch it outside the transaction() block"
                )
            dbapi.commit()
        except BaseException:
            _roll_back(opened)
            raise
        finally:
            if _is_usable(opened):
                dbapi.autocommit = True
    except psycopg2.Error as error:
        if is_disconnect(error, dbapi) and connection.is_valid:
            connection.invalidate(error)
        raise database_error(error, dbapi=dbapi) from error
    finally:
        if _is_ours(opened):
            connection.info["session_kept"] = opened.session_kept
            connection.close()
        else:
            connection.detach()  # closing it in a forked child could end the parent's session
        _transaction.reset(token)


def with_cursor(work: Callable[[Cursor], _R], statement: str, *, changes_session: bool = False) -> _R:
    """Call ``work`` with a driver's cursor in the caller's schema and return its result.

    The cursor is on the caller's open transaction, else on a pooled connection for this once. (A function and not a
    context manager: on a local socket two generators cost as much as the query.)

    Args:
        work: runs the statement and reads what it needs from the cursor.
        statement: what is going to run, for the error message.
        changes_session: the statement may leave something behind in the session, which the next caller must not find.

    Raises:
        DatabaseError: no connection, the schema does not exist, or the server refused the statement.
    """
    current = _transaction.get()
    if current is not None:
        _check_transaction(current)
        connection = current.connection
    else:
        connection = _take_connection()
    dbapi = _dbapi(connection)
    try:
        return work(dbapi.cursor())
    except psycopg2.Error as error:
        if is_disconnect(error, dbapi):
            connection.invalidate(error)
        elif _names_nothing(error):
            connection.info.pop("schema", None)
            connection.info.pop("schemas_seen", None)
        raise database_error(error, statement=statement, dbapi=dbapi) from error
    finally:
        if current is None:
            connection.info["session_kept"] = not changes_session
            connection.close()
        elif changes_session:
            current.session_kept = False


def _take_connection() -> PoolProxiedConnection:
    engine = get_engine()
    try:
        return engine.raw_connection()
    except psycopg2.Error as error:
        raise database_error(error) from error
    except sa.exc.DBAPIError as error:
        raise database_error(error.orig or error) from error
    except sa.exc.TimeoutError as error:
        raise DatabaseError(
            "All connections of the pool are in use, and none came free in time. Close what holds them, or raise "
            "IRP_POOL_SIZE"
        ) from error
    except sa.exc.InvalidRequestError as error:
        raise DatabaseError(
            f"No connection to {_database_in_words()}: one after the other was closed as soon as it was made",
            disconnected=True,
        ) from error


def _dbapi(connection: PoolProxiedConnection) -> DriverConnection:
    return cast("DriverConnection", connection.dbapi_connection)


def _caller() -> tuple[int, int, object]:
    """Return what tells this flow of control from any other: process, thread and asyncio task."""
    try:
        task: object = asyncio.current_task()
    except RuntimeError:
        task = None
    return os.getpid(), threading.get_ident(), task


def _is_ours(current: _Transaction) -> bool:
    """Tell whether this process opened it: a forked child shares the connection and must not say a word on it."""
    return current.owner[0] == os.getpid()


def _is_usable(current: _Transaction) -> bool:
    return _is_ours(current) and current.connection.is_valid and not _dbapi(current.connection).closed


def _roll_back(current: _Transaction) -> None:
    if _is_usable(current):
        try:
            _dbapi(current.connection).rollback()
        except psycopg2.Error as error:
            current.connection.invalidate(error)  # what was not committed is gone with the connection


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
            "A transaction belongs to the thread or task that opened it, and this is another one. Open a "
            "transaction() of its own here, or do the work before it is handed on"
        )
    schema = get_current_schema()
    if current.schema != schema:
        raise DatabaseError(
            f"A transaction in schema {current.schema!r} is open: nothing can be done in schema {schema!r} inside "
            "it. End the transaction first"
        )
    _check_connected(current)


# --- errors -------------------------------------------------------------------------------------------------------


def is_disconnect(error: BaseException, dbapi: DriverConnection | None = None) -> bool:
    """Tell whether an error means that the connection is gone, rather than that a statement was wrong."""
    if dbapi is not None and dbapi.closed:
        return True
    if not isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return False
    # 57P01 to 57P03: the server is shutting down or starting up. 08: connection exceptions.
    state = error.pgcode or ""
    return state.startswith(("57P0", "08")) or (not state and "connection" in str(error).lower())


def _names_nothing(error: psycopg2.Error) -> bool:
    return error.pgcode in {_UNDEFINED_TABLE, _INVALID_SCHEMA_NAME}


def database_error(
    error: BaseException, statement: str | None = None, dbapi: DriverConnection | None = None
) -> DatabaseError:
    """Return our error for one of the driver's.

    Args:
        error: what the driver raised.
        statement: what was being run; None while connecting.
        dbapi: the connection it happened on, if there was one.
    """
    disconnected = is_disconnect(error, dbapi)
    state = getattr(error, "pgcode", None)
    diagnostics = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    if statement is None and state is None and isinstance(error, psycopg2.OperationalError):
        return DatabaseError(f"No connection to {_database_in_words()}: {_first_line(error)}", disconnected=True)
    if primary is None or disconnected:
        return DatabaseError(
            primary or _first_line(error), sqlstate=state, statement=statement, disconnected=disconnected
        )
    if state and state.startswith(_DATA_EXCEPTION_CLASS):
        primary = _QUOTED_VALUE.sub("a value", primary)
    if state == _SYNTAX_ERROR and statement is not None:
        # The place of the error may be a value in the wrong place, since the driver writes values into the statement.
        primary = _QUOTED_VALUE.sub(lambda m: m[0] if m[0][1:-1] in statement else "a value", primary)
    message = primary[:1].upper() + primary[1:]
    if state in {_UNDEFINED_TABLE, _INVALID_SCHEMA_NAME}:
        schema = get_current_schema()
        message += (
            f". It was looked for in schema {schema!r}, which may be missing or not initialised; "
            f"to make its irp_* tables, run: {_init_command(schema)}"
        )
    return DatabaseError(message, sqlstate=state, statement=statement)


def _database_in_words() -> str:
    from irp_pipeline import settings

    return str(settings.describe_database())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
