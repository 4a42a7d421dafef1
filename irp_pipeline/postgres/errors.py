"""Errors of the database, in words for the person who can act on them. No connections here, and no statements."""

import re
from typing import Any, Final

import psycopg2

from irp_pipeline.errors import IrpError
from irp_pipeline.postgres.context import get_current_schema

# SQLSTATEs that callers distinguish: https://www.postgresql.org/docs/current/errcodes-appendix.html
UNIQUE_VIOLATION: Final = "23505"
FOREIGN_KEY_VIOLATION: Final = "23503"

_STATEMENT_CHARACTERS_SHOWN: Final = 2000

_UNDEFINED_TABLE: Final = "42P01"
_INVALID_SCHEMA_NAME: Final = "3F000"
_DATA_EXCEPTION_CLASS: Final = "22"
_SYNTAX_ERROR: Final = "42601"
_QUOTED_VALUE: Final = re.compile(r'".*"', re.DOTALL)


class DatabaseError(IrpError):
    """The database could not be reached, or refused a statement.

    The message contains no parameter values and no password. The driver's own error is the ``__cause__``.

    Attributes:
        sqlstate: the five characters of the SQLSTATE, or None if the server sent none.
        statement: the statement as it was written, with its placeholders, or None.
        disconnected: the server was or became unreachable, so the same call may succeed later. It is unknown whether a
            statement that was running then took effect.
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


def missing_schema(schema: str) -> DatabaseError:
    """Return the error for a schema that does not exist."""
    return DatabaseError(
        f"The schema {schema!r} does not exist in this database. To make it, run: {_init_command(schema)}",
        sqlstate=_INVALID_SCHEMA_NAME,
    )


def _init_command(schema: str) -> str:
    import shlex

    return f"irp db init --db-schema {shlex.quote(schema)}"


def is_disconnect(error: BaseException, dbapi: Any = None) -> bool:
    """Return whether an error means that the connection is gone, rather than that a statement was wrong."""
    if dbapi is not None and dbapi.closed:
        return True
    if not isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return False
    # 57P01 to 57P03: the server is shutting down or starting up. 08: connection exceptions.
    state = error.pgcode or ""
    return state.startswith(("57P0", "08")) or (not state and "connection" in str(error).lower())


def names_nothing(error: psycopg2.Error) -> bool:
    """Return whether an error may mean that the schema is gone."""
    return error.pgcode in {_UNDEFINED_TABLE, _INVALID_SCHEMA_NAME}


def database_error(error: BaseException, statement: str | None = None, dbapi: Any = None) -> DatabaseError:
    """Return our error for an error of the driver.

    Args:
        error: the driver's error.
        statement: the statement that was running; None while connecting.
        dbapi: its connection, if there was one.
    """
    disconnected = is_disconnect(error, dbapi)
    state = getattr(error, "pgcode", None)
    diagnostics = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    if statement is None and state is None and isinstance(error, psycopg2.OperationalError):
        return DatabaseError(f"No connection to {database_in_words()}: {_first_line(error)}", disconnected=True)
    if primary is None or disconnected:
        return DatabaseError(
            primary or _first_line(error), sqlstate=state, statement=statement, disconnected=disconnected
        )
    if state and state.startswith(_DATA_EXCEPTION_CLASS):
        primary = _QUOTED_VALUE.sub("a value", primary)
    if state == _SYNTAX_ERROR and statement is not None:
        # The server may quote a value in a wrong place, since the driver writes values into the statement.
        primary = _QUOTED_VALUE.sub(lambda m: m[0] if m[0][1:-1] in statement else "a value", primary)
    message = primary[:1].upper() + primary[1:]
    if state in {_UNDEFINED_TABLE, _INVALID_SCHEMA_NAME}:
        schema = get_current_schema()
        message += (
            f". The statement ran in schema {schema!r}, which may be missing or not initialised; "
            f"to make its irp_* tables, run: {_init_command(schema)}"
        )
    return DatabaseError(message, sqlstate=state, statement=statement)


def database_in_words() -> str:
    from irp_pipeline import settings

    return str(settings.describe_database())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
