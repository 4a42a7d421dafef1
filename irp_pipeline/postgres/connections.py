"""The engine and its pool.

No connection remembers a schema: each statement brings its own (:mod:`irp_pipeline.postgres.cursors`), whether the
helpers, ``get_engine().connect()`` or pandas send it. The search path holds the caller's schema and, if
``IRP_EXTENSIONS_SCHEMA`` is set, that schema after it. It never falls through to ``public``: a schema that does not
exist is an error.

This module makes, checks and cleans connections. Transactions are in :mod:`irp_pipeline.postgres.transactions`.
"""

import functools
import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, TypeVar, cast

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from irp_pipeline.postgres.context import get_current_schema
from irp_pipeline.postgres.cursors import (
    LoneCursor,
    SchemaConnection,
    search_path,
)
from irp_pipeline.postgres.errors import DatabaseError, database_error, is_disconnect

_R = TypeVar("_R")

_IDLE_SECONDS_BEFORE_TEST: Final = 1.0

# The options that a session begins with, if the server accepts them. The search path is empty, so that a statement
# without its schema finds nothing instead of the tables of another schema.
_SESSION: Final = """
SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('search_path'), pg_catalog.current_setting('TimeZone'),
       pg_catalog.current_setting('default_transaction_isolation')
"""
_OPTION_SPECIAL: Final = re.compile(r"[\\\s]")
_ESCAPED: Final = r"\\\g<0>"
_NO_OPTIONS: Final = "unsupported startup parameter"  # what PgBouncer says


# --- the engine ---------------------------------------------------------------------------------------------------

_engine: sa.Engine | None = None
_engine_lock = threading.Lock()


def get_engine() -> sa.Engine:
    """Return the process's only SQLAlchemy engine; the first call makes it.

    It is in AUTOCOMMIT: each statement is its own transaction, except inside :func:`transaction` or SQLAlchemy's
    ``begin()`` on a connection with another isolation level. Each statement runs in the schema of its sender at the
    moment of sending.

    Raises:
        SettingsError: the environment names no usable database.
        EmbeddedServerError: the embedded server does not start.
    """
    engine = _engine
    return engine if engine is not None else _make_engine()


def dispose_engine() -> None:
    """Close the idle connections and forget the engine: the next call reads the settings again."""
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
                pool_reset_on_return=None,  # clean_connection does it
                connect_args=_connect_arguments(),
            )
            extensions = settings.extensions_schema()
            made = functools.partial(
                _connection_made,
                extensions=extensions,
                known=set(),
                send_alone=functools.partial(_run_alone, engine, extensions),
            )
            sa.event.listen(engine, "do_connect", _connect)
            sa.event.listen(engine, "connect", made)
            sa.event.listen(engine, "checkout", _connection_taken)
            sa.event.listen(engine, "checkin", clean_connection)
            _engine = engine
        return _engine


def _forget_engine_in_child() -> None:
    """Leave the parent's sockets, which a forked child shares, open and unused; the child makes its own."""
    global _engine_lock
    _engine_lock = threading.Lock()
    if _engine is not None:
        _engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_engine_in_child)


@contextmanager
def administrative_connection() -> Iterator[sa.Connection]:
    """Yield a connection outside the pool, with the server's default search path.

    It is for creating, migrating and dropping a schema. Every name in its statements must be qualified.

    Raises:
        DatabaseError: there is no connection to the server.
    """
    from irp_pipeline import settings

    engine = sa.create_engine(
        settings.database_url(),
        poolclass=NullPool,
        isolation_level="READ COMMITTED",  # a statement that waited for a lock must see what the other one wrote
        connect_args=_connect_arguments(),
    )
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.DBAPIError as error:
        cause = error.orig if isinstance(error.orig, psycopg2.Error) else error
        raise database_error(cause, statement=error.statement) from error


def is_pooled() -> bool:
    """Return whether there is a connection pooler between this process and the server.

    If there is, the server process that answers is not the one that was named when the connection was made.

    Raises:
        DatabaseError: there is no connection to the server.
    """
    with administrative_connection() as connection:
        answering = connection.exec_driver_sql("SELECT pg_catalog.pg_backend_pid()").scalar()
        driver: Any = connection.connection.dbapi_connection
        return bool(answering != driver.info.backend_pid)


def _connect_arguments() -> dict[str, Any]:
    from irp_pipeline import settings

    return {
        "connect_timeout": settings.connect_timeout_seconds(),
        "tcp_user_timeout": 1000 * settings.connect_timeout_seconds(),  # for a network that fails silently
        "client_encoding": "utf8",
        "application_name": "irp_pipeline",
        "keepalives_idle": 60,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }


# --- what happens to a connection ---------------------------------------------------------------------------------


def _connect(
    dialect: sa.Dialect, _: ConnectionPoolEntry, arguments: list[Any], named: dict[str, Any]
) -> SchemaConnection:
    """Open a connection for the pool; start the embedded server again if it was stopped in the meantime."""
    from irp_pipeline import settings

    if settings.database_source() == "embedded":
        settings.database_url()
    named = named | {"connection_factory": SchemaConnection}
    try:
        return cast("SchemaConnection", psycopg2.connect(*arguments, **named | _session_options(named, path="")))
    except psycopg2.OperationalError as error:
        if _NO_OPTIONS not in str(error):
            raise
    return cast("SchemaConnection", psycopg2.connect(*arguments, **named))


def _session_options(named: dict[str, Any], path: str) -> dict[str, str]:
    """Return the argument ``options``: those of the URL or the environment, and ours."""
    settings = {"search_path": path, "TimeZone": "UTC", "default_transaction_isolation": "read committed"}
    ours = [f"-c {name}={_OPTION_SPECIAL.sub(_ESCAPED, value)}" for name, value in settings.items()]
    return {"options": " ".join([named.get("options") or os.environ.get("PGOPTIONS", ""), *ours]).strip()}


def _began_as_asked(dbapi: SchemaConnection, path: str) -> bool:
    """Return whether the connection has its own session on the server, which began with the requested options."""
    with dbapi.plain_cursor() as cursor:
        cursor.execute(_SESSION)
        return cursor.fetchone() == (dbapi.info.backend_pid, path, "UTC", "read committed")


def _connection_made(
    dbapi: SchemaConnection,
    entry: ConnectionPoolEntry,
    extensions: str | None,
    known: set[str],
    send_alone: Callable[[Callable[[LoneCursor], Any]], Any],
) -> None:
    dbapi.autocommit = True
    entry.info["process"] = os.getpid()
    dbapi.is_direct = _began_as_asked(dbapi, path="")
    dbapi.watcher = select.poll()
    dbapi.watcher.register(dbapi.fileno(), select.POLLIN)
    dbapi.extensions = extensions
    dbapi.known = known
    dbapi.send_alone = send_alone
    dbapi.is_ready = True


def _connection_taken(dbapi: SchemaConnection, _: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
    try:
        check_alive(dbapi)
    except psycopg2.Error as error:
        if is_disconnect(error, dbapi):
            # If one connection is dead, the other connections of the pool are dead too.
            raise sa.exc.InvalidatePoolError from error
        raise


def clean_connection(dbapi: SchemaConnection | None, entry: ConnectionPoolEntry) -> None:
    """Undo whatever a caller did to the session of its connection.

    That is a transaction that was not ended, which the next caller would otherwise be in, and anything that SET,
    PREPARE, LISTEN or a temporary table left.
    """
    if dbapi is None or dbapi.closed or entry.info.get("process") != os.getpid():
        return
    try:
        if dbapi.info.transaction_status != TRANSACTION_STATUS_IDLE:
            with dbapi.plain_cursor() as cursor:
                cursor.execute("ROLLBACK")
        dbapi.reset()
        dbapi.autocommit = True
    except psycopg2.Error as error:
        entry.invalidate(error)
        return
    dbapi.idle_since = time.monotonic()


def check_alive(dbapi: SchemaConnection) -> None:
    """Test an idle connection if it may have died.

    Raises:
        psycopg2.Error: it has died.
    """
    if _may_be_dead(dbapi):
        with dbapi.plain_cursor() as cursor:
            cursor.execute("SELECT 1")


def _may_be_dead(dbapi: SchemaConnection) -> bool:
    """Return whether a connection should be tested before use.

    A server that goes away closes the socket. An idle socket with something to read is a closed one (or has a notice,
    which causes a needless test). A network failure is not visible, so test after a second.
    """
    if dbapi.idle_since is None:
        return False
    if time.monotonic() - dbapi.idle_since > _IDLE_SECONDS_BEFORE_TEST:
        return True
    return bool(dbapi.watcher.poll(0))


def _run_alone(engine: sa.Engine, extensions: str | None, work: Callable[[LoneCursor], _R]) -> _R:
    """Call ``work`` with a cursor on a separate connection, which is in the caller's schema from its beginning.

    It is for statements that cannot be part of a transaction, as every statement with its schema in front is.

    Raises:
        DatabaseError: the schema does not exist, or there is a connection pooler, through which a connection cannot
            begin in a schema.
    """
    schema = get_current_schema()
    path = search_path(schema, extensions)
    arguments, named = engine.dialect.create_connect_args(engine.url)
    named = dict(named) | _connect_arguments() | {"connection_factory": SchemaConnection}
    connection: SchemaConnection
    try:
        connection = psycopg2.connect(*arguments, **named | _session_options(named, path))
    except psycopg2.OperationalError as error:
        if _NO_OPTIONS in str(error):
            raise _no_direct_connection() from error
        raise
    with closing(connection):
        connection.autocommit = True
        if not _began_as_asked(connection, path):
            raise _no_direct_connection()
        connection.extensions, connection.known = extensions, set()
        connection.check_schema(schema)
        return work(LoneCursor(connection))


def _no_direct_connection() -> DatabaseError:
    return DatabaseError(
        "This statement cannot be part of a transaction, but through a connection pooler it can only be sent with its "
        "schema in one. Set IRP_DATABASE_URL to the server itself instead of the pooler"
    )
