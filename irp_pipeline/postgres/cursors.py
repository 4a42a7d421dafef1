"""Connections and cursors of the driver that send the schema with each statement.

``SET LOCAL search_path TO "x"; <statement>`` is one message. PostgreSQL runs it as one transaction unless one is
open. So the path holds for that statement, whatever the connection was used for before, and whichever session of the
server a connection pooler picks. The schema is that of the caller's context at the moment of the statement. A
connection remembers no schema, and a statement that is sent without one finds an empty search path.

This module contains what is sent around a statement, and refuses statements that cannot be sent with a schema.
:mod:`irp_pipeline.postgres.connections` makes the connections.
"""

import functools
import re
import select
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as DriverConnection  # noqa: N812
from psycopg2.extensions import cursor as DriverCursor  # noqa: N812
from psycopg2.sql import Composable

from irp_pipeline.postgres import statements
from irp_pipeline.postgres.context import get_current_schema
from irp_pipeline.postgres.errors import DatabaseError, missing_schema, names_nothing
from irp_pipeline.postgres.statements import Statement, quote_identifier

BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"

# Undoes what commands leave in a session. Unlike DISCARD ALL it can be sent inside a transaction.
_LEAVE_NOTHING: Final = (
    "CLOSE ALL; DEALLOCATE ALL; UNLISTEN *; DISCARD TEMP; RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; "
)

# VACUUM, CREATE INDEX CONCURRENTLY and others; DO and CALL that contain COMMIT.
_NOT_IN_A_TRANSACTION: Final = frozenset({"25001", "2D000"})

_SET: Final = re.compile(r"\s*set\b", re.IGNORECASE)

_SCHEMA_CHECK = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s)"
_EXTENSIONS_CHECK = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s),
       (SELECT min(tablename) FROM pg_catalog.pg_tables WHERE schemaname = %(schema)s AND tablename LIKE 'irp\\_%%')
"""


class SchemaConnection(DriverConnection):
    """A connection whose cursors send the schema with each statement.

    Attributes:
        is_ready: whether its cursors send the schema; before that, SQLAlchemy asks the server for its version.
        is_direct: whether it has its own session on the server, which began with the requested options. Behind a
            connection pooler neither is certain.
        extensions: the schema that follows every other one in the search path, if there is one.
        known: the schemas that are known to exist; shared by the connections of this process.
        send_alone: calls a function with a cursor for a statement that cannot be part of a transaction.
        watcher: watches its socket.
        idle_since: when it was returned to the pool, by :func:`time.monotonic`; None before.
    """

    is_ready: bool = False
    is_direct: bool = False
    extensions: str | None = None
    known: set[str]
    watcher: select.poll
    idle_since: float | None = None
    send_alone: Callable[[Callable[["LoneCursor"], Any]], Any]

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor; a cursor of another class sends the schema too."""
        if not self.is_ready:
            return super().cursor(*args, **kwargs)
        if len(args) > 1:
            kwargs["cursor_factory"], args = args[1], (args[0], *args[2:])
        asked_for = kwargs.pop("cursor_factory", None) or self.cursor_factory
        return super().cursor(*args, cursor_factory=_with_schema(asked_for), **kwargs)

    def is_between_transactions(self) -> bool:
        """Return whether the next statement is a separate transaction."""
        return self.autocommit and self.get_transaction_status() == TRANSACTION_STATUS_IDLE

    def plain_cursor(self) -> DriverCursor:
        """Return a cursor that sends only its statement."""
        return DriverCursor(self)

    def check_schema(self, schema: str) -> None:
        """Make sure that a schema exists, and that the extensions schema has no tables that it could fall through to.

        Raises:
            DatabaseError: the schema does not exist, or ``IRP_EXTENSIONS_SCHEMA`` names one that cannot be used.
        """
        with self.plain_cursor() as cursor:
            cursor.execute(_SCHEMA_CHECK, {"schema": schema})
            if cursor.fetchone() != (True,):
                raise missing_schema(schema)
            if self.extensions and self.extensions != schema:
                cursor.execute(_EXTENSIONS_CHECK, {"schema": self.extensions})
                exists, table = cursor.fetchone() or (False, None)
                if not exists:
                    raise DatabaseError(
                        f"IRP_EXTENSIONS_SCHEMA names the schema {self.extensions!r}, which does not exist: create it "
                        "or correct the variable"
                    )
                if table:
                    raise DatabaseError(
                        f"IRP_EXTENSIONS_SCHEMA names the schema {self.extensions!r}, which has the table {table}: a "
                        "schema for extensions must have no irp_* table, or other schemas would fall through to it"
                    )
        self.known.add(schema)


class SchemaCursor(DriverCursor):
    """A cursor of the driver that sends the schema with each statement."""

    __slots__ = ()

    connection: SchemaConnection

    def run(self, statement: Statement, values: Sequence[Any]) -> None:
        """Run a statement of the helpers that is already parsed."""
        text = statement.text if values else statement.source
        if statement.is_savepoint or statement.is_discard:
            # They need no path, and must be sent alone: DISCARD ALL always, a savepoint after a failed statement.
            DriverCursor.execute(self, text)
        elif statement.changes_session and self.connection.is_between_transactions():
            send_and_clean(self, text, values or None)
        else:
            self.send(text, values or None)

    def send(self, query: str | bytes, values: Any = None) -> None:
        """Send a statement with the schema in front of it, without parsing it."""
        in_front = self._in_front(query, values is not None)
        try:
            super().execute(in_front + query if isinstance(query, str) else in_front.encode() + query, values)
        except psycopg2.Error as error:
            if names_nothing(error):
                self.connection.known.clear()
            raise

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - the driver's name
        """Run a statement in the schema of the caller's context."""
        connection = self.connection
        if isinstance(query, Composable):
            query = query.as_string(connection)
        statement = statements.read_commands(query if isinstance(query, str) else query.decode(errors="replace"))
        if self.name is not None:
            self._declare(query, vars)
        elif statement.controls_transaction or statement.is_discard:
            if not statement.is_one_command:
                raise _mixed_with_transaction_control(statement)
            super().execute(query, vars)
        elif connection.is_between_transactions():
            self._execute_by_itself(query, vars, statement)
        else:
            if not connection.is_direct:
                _refuse_leftovers(statement)
            self.send(query, vars)

    def _execute_by_itself(self, query: str | bytes, values: Any, statement: Statement) -> None:
        connection = self.connection
        try:
            if connection.is_direct:
                self.send(query, values)
                return
            _refuse_temporary(statement)
            if statement.changes_session:
                send_and_clean(self, query, values)
            else:
                self.send(query, values)
        except psycopg2.Error as error:
            if error.pgcode not in _NOT_IN_A_TRANSACTION:
                raise
            connection.send_alone(lambda cursor: cursor.execute(query, values))

    def executemany(self, query: Any, vars_list: Iterable[Any]) -> None:
        """Run a statement once for each row of values."""
        query, in_front = self._readied(query, is_bound=True)
        super().executemany(in_front + query, vars_list)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Run a COPY between a file and a table or query."""
        query, in_front = self._readied(sql, is_bound=False)
        super().copy_expert(in_front + query, file, size)

    def copy_from(
        self,
        file: Any,
        table: str,
        sep: str = "\t",
        null: str = "\\N",
        size: int = 8192,
        columns: Iterable[str] | None = None,
    ) -> None:
        """Fill a table from a file of PostgreSQL's text format."""
        self.copy_expert(f"COPY {_copied(table, columns)} FROM STDIN WITH {self._copy_format(sep, null)}", file, size)

    def copy_to(
        self, file: Any, table: str, sep: str = "\t", null: str = "\\N", columns: Iterable[str] | None = None
    ) -> None:
        """Write a table to a file of PostgreSQL's text format."""
        self.copy_expert(f"COPY {_copied(table, columns)} TO STDOUT WITH {self._copy_format(sep, null)}", file)

    def _copy_format(self, sep: str, null: str) -> str:
        return str(self.mogrify("(DELIMITER %s, NULL %s)", (sep, null)).decode())

    def callproc(self, procname: Any, parameters: Any = None) -> Any:
        """Call a function and keep its result to be fetched."""
        values = parameters or ()
        if isinstance(values, dict):
            marks = [f"{quote_identifier(name)} := %s" for name in values]
            values = tuple(values.values())
        else:
            marks = ["%s"] * len(values)
        self.execute(f"SELECT * FROM {procname}({', '.join(marks)})", values)  # noqa: S608 - a name, as the driver has it
        return parameters

    def _declare(self, query: str | bytes, values: Any) -> None:
        """Open a server-side cursor; the message with its DECLARE cannot have anything in front of it."""
        if self.connection.autocommit:
            raise DatabaseError(
                "A server-side cursor needs a transaction, and this connection is in autocommit. With SQLAlchemy: "
                "get_engine().connect().execution_options(isolation_level='READ COMMITTED'). With pandas: pass that "
                "connection instead of the engine"
            )
        with self.connection.plain_cursor() as cursor:
            cursor.execute(self._in_front("", is_bound=False))
        super().execute(query, values)

    def _readied(self, query: Any, is_bound: bool) -> tuple[str, str]:
        """Return a statement as text, and the text that goes in front of it."""
        if isinstance(query, Composable):
            query = query.as_string(self.connection)
        elif isinstance(query, bytes):
            query = query.decode()
        statement = statements.read_commands(query)
        if statement.controls_transaction:
            raise _mixed_with_transaction_control(statement)
        if not self.connection.is_direct:
            _refuse_leftovers(statement)
        return query, self._in_front(query, is_bound)

    def _in_front(self, query: str | bytes, is_bound: bool) -> str:
        connection = self.connection
        schema = get_current_schema()
        if schema not in connection.known:
            connection.check_schema(schema)
        extensions = connection.extensions
        is_direct = connection.is_direct
        return _preamble(
            schema,
            extensions,
            is_bound,
            extensions is not None and not (isinstance(query, str) and _SET.match(query)),
            not is_direct or connection.get_parameter_status("TimeZone") != "UTC",
            not is_direct and connection.is_between_transactions(),
        )


class LoneCursor(DriverCursor):
    """A cursor on a connection that was opened in the schema, for a statement that must be sent alone."""

    __slots__ = ()

    def send(self, query: str | bytes, values: Any = None) -> None:
        """Send a statement unchanged."""
        self.execute(query, values)

    def run(self, statement: Statement, values: Sequence[Any]) -> None:
        """Run a statement of the helpers."""
        self.execute(statement.text if values else statement.source, values or None)


@functools.lru_cache(maxsize=64)
def _with_schema(cursor_class: Any) -> Any:
    if cursor_class is None or issubclass(SchemaCursor, cursor_class):
        return SchemaCursor
    if issubclass(cursor_class, SchemaCursor):
        return cursor_class
    return type(cursor_class.__name__, (SchemaCursor, cursor_class), {})


@functools.lru_cache(maxsize=4096)
def _preamble(
    schema: str, extensions: str | None, is_bound: bool, must_exist: bool, sets_zone: bool, sets_isolation: bool
) -> str:
    """Return the text that goes in front of a statement.

    Args:
        schema: the schema to work in.
        extensions: the schema after it in the search path.
        is_bound: whether the driver is going to put in values, and so interprets ``%``.
        must_exist: whether to fail if the schema does not exist; otherwise the statement could create things in
            ``extensions``.
        sets_zone: whether the time zone is not, or may not be, UTC.
        sets_isolation: whether the statement is a separate transaction whose default isolation may not be read
            committed.
    """
    # Times come back with one offset, whatever the server's zone and its summer time. A statement that waited for a
    # lock must then see what the other transaction wrote, whatever the server's default.
    parts = ["SET TRANSACTION ISOLATION LEVEL READ COMMITTED"] if sets_isolation else []
    parts.append(f"SET LOCAL search_path TO {search_path(schema, extensions)}")
    if sets_zone:
        parts.append("SET LOCAL TimeZone TO 'UTC'")
    if must_exist:
        literal = quote_identifier(schema).replace("'", "''").replace("\\", "\\\\")
        parts.append(f"SELECT E'{literal}'::regnamespace")
    text = "; ".join(parts) + ";\n"  # on a separate line, so that the server shows the caller's line in an error
    return text.replace("%", "%%") if is_bound else text


def search_path(schema: str, extensions: str | None) -> str:
    """Return the search path of a schema, as SQL."""
    return ", ".join(quote_identifier(name) for name in (schema, extensions) if name)


def commit_message(schema: str, extensions: str | None, *, leave_nothing: bool) -> str:
    """Return the message that ends a transaction: deferred triggers run at COMMIT and also need the schema.

    Args:
        schema: the schema of the transaction.
        extensions: the schema after it in the search path.
        leave_nothing: whether a statement of the transaction may have changed the session.
    """
    return (
        f"{_LEAVE_NOTHING if leave_nothing else ''}SET LOCAL search_path TO {search_path(schema, extensions)}; COMMIT"
    )


def send_and_clean(cursor: SchemaCursor, query: str | bytes, values: Any) -> None:
    """Run a statement that may leave something in its session, and undo that in the same transaction.

    It is one transaction so that a connection pooler cannot switch to another session in between.
    """
    with cursor.connection.plain_cursor() as around:
        around.execute(BEGIN)
        try:
            cursor.send(query, values)
            around.execute(commit_message(get_current_schema(), cursor.connection.extensions, leave_nothing=True))
        except BaseException:
            if not cursor.connection.closed:
                around.execute("ROLLBACK")
            raise


def must_go_alone(error: psycopg2.Error) -> bool:
    """Return whether a statement failed because it cannot be part of a transaction."""
    return error.pgcode in _NOT_IN_A_TRANSACTION


def refuse_in_helper(statement: Statement, is_in_transaction: bool) -> None:
    """Refuse a statement of the helpers that does something it must not do.

    Raises:
        DatabaseError: it begins or ends a transaction, or leaves a temporary table to the next caller.
    """
    if statement.controls_transaction and not (is_in_transaction and statement.is_savepoint):
        raise DatabaseError(
            "Use `with transaction():` to begin and end a transaction, not a statement: the part after a COMMIT "
            "would have no schema. Savepoints are possible inside the block, each in a separate statement",
            statement=statement.source,
        )
    if statement.makes_temporary and not is_in_transaction:
        _refuse_temporary(statement)
    _refuse_temporary_that_stays(statement)


def _refuse_leftovers(statement: Statement) -> None:
    _refuse_temporary_that_stays(statement)
    if statement.sets_session:
        raise DatabaseError(
            "Behind a connection pooler this setting would affect other callers, since it outlives the transaction. "
            "Use SET LOCAL, or set_config(…, true)",
            statement=statement.source,
        )


def _refuse_temporary(statement: Statement) -> None:
    if statement.makes_temporary:
        raise DatabaseError(
            "A temporary table would stay with the connection and hide a table of the next caller's schema. Make it "
            "inside `with transaction():`, with ON COMMIT DROP",
            statement=statement.source,
        )


def _refuse_temporary_that_stays(statement: Statement) -> None:
    if statement.leaves_temporary:
        raise DatabaseError(
            "A temporary table that outlives its transaction would hide a table of the next caller's schema. Make it "
            "with ON COMMIT DROP. Temporary views and sequences are not possible",
            statement=statement.source,
        )


def _mixed_with_transaction_control(statement: Statement) -> DatabaseError:
    return DatabaseError(
        "BEGIN, COMMIT, ROLLBACK and savepoints must be sent alone: the rest of the same message would have no schema",
        statement=statement.source,
    )


def _copied(table: str, columns: Iterable[str] | None) -> str:
    listed = f" ({', '.join(quote_identifier(column) for column in columns)})" if columns else ""
    return quote_identifier(table) + listed
