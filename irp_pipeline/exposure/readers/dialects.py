"""What differs from one kind of source database to the next: drivers, read-only transactions, types.

Each kind begins the strongest read-only transaction that it has, and shows one moment in it if it can. The docs say
what each can and cannot do. PostgreSQL is read in another way, in :mod:`~irp_pipeline.exposure.readers.postgres`.

SQL Server and Oracle are tried against SQLAlchemy's dialects and the drivers' own types, not against a server.
"""

import decimal
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irp_pipeline.exposure.readers.parameters import code_of, pieces

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_CONNECT_TIMEOUT_SECONDS = 10
# Reserved words that begin a statement, or make one of a SELECT. T-SQL needs no semicolon between statements.
_T_SQL_STATEMENTS = re.compile(
    r"(?<![\w@#$])(alter|backup|begin|commit|create|dbcc|deny|drop|exec|execute|grant|insert|into|kill|merge(?!\s+(?:join|union))|"
    r"reconfigure|restore|revert|revoke|rollback|save|set|shutdown|truncate|update|use(?!\s+(?:hint|plan))|waitfor|writetext|updatetext|delete|declare)\b",
    re.IGNORECASE,
)
# What ODBC calls the size of a column of the type real: in bits, or in digits.
_SIZES_OF_REAL = (24, 7)
# Rows that the driver of Oracle asks for at once: each row of the buffer is as wide as its columns may be.
_ORACLE_ROWS = 1_000


class SourceDialect:
    """A kind of database about which nothing special is known.

    Attributes:
        driver_of: the driver to use for an address that names none.
        extra: the extra of this package that installs the driver.
        libraries: what to do if a library of the machine is missing.
        has_booleans: whether a truth value can be bound; else it is bound as 1 or 0.
    """

    driver_of: Mapping[str, str] = {}
    extra: str = ""
    libraries: str = ""
    has_booleans: bool = True
    _statements: Sequence[str] = ()

    def file_problem(self, url: "URL") -> str | None:
        """What is wrong with the file of a database that is one; None if nothing is."""
        return None

    def completed(self, url: "URL") -> "URL":
        """Return the address with what this package adds to it."""
        return url

    def engine_options(self, url: "URL") -> dict[str, Any]:
        """Return what ``create_engine`` is told."""
        return {}

    def prepare(self, engine: "Engine") -> None:
        """Prepare the connections of an engine."""

    def problem(self, query: str) -> str | None:
        """Why a query must not run, for a database that would run it; None if it may.

        Args:
            query: the query, with marks for its parameters.
        """
        return None

    def begin(self, connection: "Connection") -> str:
        """Begin the transaction in which everything is read; return how it is read, in words."""
        for statement in self._statements:
            connection.exec_driver_sql(statement)
        return connection.dialect.name

    def padded(self, description: Sequence[Sequence[Any]]) -> Sequence[int]:
        """Return the positions of the columns that the database fills up with blanks.

        Args:
            description: of the result, by its driver.
        """
        return ()

    def single_precision(self, description: Sequence[Sequence[Any]]) -> Sequence[int]:
        """Return the positions of the columns of single-precision floats, as far as the driver tells them.

        Args:
            description: of the result, by its driver.
        """
        return ()

    def hint(self, message: str) -> str:
        """Return what to do about a driver's message that the database cannot be reached; empty if nothing is known."""
        return ""


class _MySql(SourceDialect):
    driver_of = {"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}  # noqa: RUF012
    extra = "mysql"
    _statements = ("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",)


class _File(SourceDialect):
    """A database that is one file."""

    _kind = ""

    def file_problem(self, url: "URL") -> str | None:
        if url.database and not Path(url.database).is_file():
            return f"the {self._kind} file {url.database}, which does not exist"
        return None


class _Sqlite(_File):
    _kind = "SQLite"
    # The driver begins no transaction for a SELECT.
    _statements = ("PRAGMA query_only = ON", "BEGIN")


class _DuckDb(_File):
    """One that is opened to be read only: the transaction shows one moment."""

    _kind = "DuckDB"
    extra = "duckdb"

    def engine_options(self, url: "URL") -> dict[str, Any]:
        return {"connect_args": {"read_only": True}}


class _Oracle(SourceDialect):
    """A read-only transaction of Oracle shows the moment at which it began."""

    driver_of = {"oracle": "oracle+oracledb"}  # noqa: RUF012
    extra = "oracle"
    has_booleans = False
    _statements = ("SET TRANSACTION READ ONLY",)

    def engine_options(self, url: "URL") -> dict[str, Any]:
        options: dict[str, Any] = {"arraysize": _ORACLE_ROWS}
        if url.get_driver_name() == "oracledb":
            options["connect_args"] = {"tcp_connect_timeout": _CONNECT_TIMEOUT_SECONDS}
        return options

    def prepare(self, engine: "Engine") -> None:
        from sqlalchemy import event

        if engine.driver != "oracledb":
            return

        def read_exactly(connection: Any, _: Any) -> None:
            connection.outputtypehandler = oracle_type_handler

        event.listen(engine, "connect", read_exactly)

    def padded(self, description: Sequence[Sequence[Any]]) -> Sequence[int]:
        return _of_oracle_types(description, "DB_TYPE_CHAR", "DB_TYPE_NCHAR")

    def single_precision(self, description: Sequence[Sequence[Any]]) -> Sequence[int]:
        return _of_oracle_types(description, "DB_TYPE_BINARY_FLOAT")


def _of_oracle_types(description: Sequence[Sequence[Any]], *names: str) -> list[int]:
    return [number for number, column in enumerate(description) if getattr(column[1], "name", "") in names]


def oracle_type_handler(cursor: Any, metadata: Any) -> Any:
    """Tell the driver of Oracle to read numbers exactly, and large texts as text; None leaves a column to it.

    Any NUMBER can be an identifier beyond 2^53, also one without a precision, so that none may become a float.
    """
    import oracledb

    large = {
        oracledb.DB_TYPE_CLOB: oracledb.DB_TYPE_LONG,
        oracledb.DB_TYPE_NCLOB: oracledb.DB_TYPE_LONG_NVARCHAR,
        oracledb.DB_TYPE_BLOB: oracledb.DB_TYPE_LONG_RAW,
    }
    if metadata.type_code is oracledb.DB_TYPE_NUMBER:
        return cursor.var(decimal.Decimal, arraysize=cursor.arraysize)
    if metadata.type_code in large:
        return cursor.var(large[metadata.type_code], arraysize=cursor.arraysize)
    return None


class _SqlServer(SourceDialect):
    """SQL Server has no read-only transaction. One with SNAPSHOT shows one moment, if the database allows it."""

    driver_of = {"mssql": "mssql+pyodbc"}  # noqa: RUF012
    extra = "mssql"
    libraries = (
        "pyodbc needs the ODBC driver manager unixODBC (Debian: apt-get install unixodbc) and an ODBC driver such as "
        "Microsoft's ODBC Driver 18 for SQL Server (msodbcsql18)"
    )

    def engine_options(self, url: "URL") -> dict[str, Any]:
        # For pyodbc the time for the connection; for another driver, the same word may mean the time for a query.
        return {"connect_args": {"timeout": _CONNECT_TIMEOUT_SECONDS}} if url.get_driver_name() == "pyodbc" else {}

    def completed(self, url: "URL") -> "URL":
        """Ask for a readable copy, where there are several, and name Microsoft's driver if none is named."""
        if url.drivername != "mssql+pyodbc" or "odbc_connect" in url.query or not url.host or not url.database:
            return url  # the user writes the connection string, or it is in odbc.ini
        given = {name.lower() for name in url.query}
        added = {"driver": "ODBC Driver 18 for SQL Server", "ApplicationIntent": "ReadOnly"}
        return url.update_query_dict({name: value for name, value in added.items() if name.lower() not in given})

    def problem(self, query: str) -> str | None:
        sql = "?".join(pieces(query)[::2])  # a parameter may have any name
        if found := _T_SQL_STATEMENTS.search(code_of(sql, "mssql")):
            return (
                f"contains {found[0].upper()}, and only a SELECT is run. If it is the name of a column or a table, "
                f"write [{found[0]}]"
            )
        return None

    def begin(self, connection: "Connection") -> str:
        allowed = connection.exec_driver_sql(
            "SELECT snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()"
        ).scalar()
        connection.rollback()  # a transaction keeps the level with which it began
        if allowed != 1:
            return "mssql; the database allows no SNAPSHOT, so what others write while it is read can be seen in part"
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
        connection.rollback()  # the level is the session's, and holds for the next transaction
        return "mssql, one moment by SNAPSHOT"

    def padded(self, description: Sequence[Sequence[Any]]) -> Sequence[int]:
        """All columns: the driver does not tell CHAR from VARCHAR, and to SQL Server no blank at the end counts."""
        return range(len(description))

    def single_precision(self, description: Sequence[Sequence[Any]]) -> Sequence[int]:
        return [n for n, column in enumerate(description) if column[1] is float and column[4] in _SIZES_OF_REAL]

    def hint(self, message: str) -> str:
        return f". {self.libraries}" if "IM002" in message or "Can't open lib" in message else ""


_DIALECTS: Mapping[str, SourceDialect] = {
    "mysql": _MySql(),
    "mariadb": _MySql(),
    "sqlite": _Sqlite(),
    "duckdb": _DuckDb(),
    "oracle": _Oracle(),
    "mssql": _SqlServer(),
}
_OTHER = SourceDialect()


def dialect_of(name: str) -> SourceDialect:
    """Return what is known about a kind of database.

    Args:
        name: as SQLAlchemy calls it.
    """
    return _DIALECTS.get(name, _OTHER)
