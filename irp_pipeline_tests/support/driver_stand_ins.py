"""Stand-ins for the drivers of SQL Server and Oracle, whose servers no test has.

SQLAlchemy's real dialects work on them. They record what the drivers are told, and deliver rows as the drivers do.
"""

import decimal
import itertools
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

DATETIMEOFFSET = -155
"""The type number of a column whose values pyodbc knows only by a converter."""


@dataclass
class Server:
    """What a stand-in was told, and what it answers.

    Attributes:
        columns: of the result: name and type, as the driver tells them.
        sizes: of columns, by name, if the driver tells them.
        rows: of the result: as the server sends them.
        answers: to other queries: the first row or an error, by a word of the query.
        told: every statement with its parameters, and what was committed and rolled back.
        fetched: how many rows each call asked for.
        connected: the arguments of the connection.
    """

    columns: Sequence[tuple[str, Any]] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    rows: Callable[[], Iterator[Sequence[Any]]] = lambda: iter(())
    answers: dict[str, Any] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    connected: list[Any] = field(default_factory=list)
    refusal: Exception | None = None

    def after(self, statement: str) -> list[Any]:
        """What was told after a statement."""
        return self.told[self.told.index(statement) + 1 :]


class Cursor:
    """A cursor of either driver."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.description: list[tuple[Any, ...]] | None = None
        self.arraysize = 100
        self.rowcount = -1
        self.outputtypehandler = None
        self._rows: Iterator[Sequence[Any]] = iter(())

    def __enter__(self) -> "Cursor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def setinputsizes(self, *_: object, **__: object) -> None: ...

    def var(self, kind: Any, *_: object, arraysize: int = 0, **__: object) -> Any:
        return kind

    def execute(self, statement: str, parameters: Any = None) -> "Cursor":
        server = self.connection.server
        found = next((answer for word, answer in server.answers.items() if word in statement), None)
        if found is None and statement.startswith("SET "):
            server.told.append(statement)
            self.description = None
        elif isinstance(found, Exception):
            raise found
        elif found is not None:
            server.told.append(statement)
            self.description, self._rows = [("", str, None, None, None, None, None)], iter([(found,)])
        else:
            server.told.append((statement, parameters) if parameters else statement)
            if server.refusal is not None:
                raise server.refusal
            self.description = [
                (name, kind, None, server.sizes.get(name), server.sizes.get(name), None, None)
                for name, kind in server.columns
            ]
            self._rows = self.connection.read(self, server.rows())
        return self

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        size = self.arraysize if size is None else size
        self.connection.server.fetched.append(size)
        return list(itertools.islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        if self.description and len(self.description) > 1:
            raise AssertionError("the whole result is read at once")
        return list(self._rows)

    def close(self) -> None: ...


class Connection:
    """A connection of either driver."""

    autocommit = False
    version = "23.0.0.0.0"
    thin = True

    def __init__(self, server: Server) -> None:
        self.server = server
        self.converters: dict[int, Callable[[Any], Any]] = {}
        self.outputtypehandler: Callable[[Any, Any], Any] | None = None
        self.inputtypehandler = None
        self.stmtcachesize = 20
        self.max_identifier_length = 128

    def cursor(self) -> Cursor:
        return Cursor(self)

    def commit(self) -> None:
        self.server.told.append("COMMIT")

    def rollback(self) -> None:
        self.server.told.append("ROLLBACK")

    def close(self) -> None:
        self.server.told.append("CLOSE")

    def add_output_converter(self, kind: int, converter: Callable[[Any], Any]) -> None:
        self.converters[kind] = converter

    def read(self, cursor: Cursor, rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """Turn what the server sends into what the driver delivers."""
        converters = [self._converter(cursor, name, kind) for name, kind in self.server.columns]
        for row in rows:
            yield tuple(cell if cell is None else convert(cell) for convert, cell in zip(converters, row, strict=True))

    def _converter(self, cursor: Cursor, name: str, kind: Any) -> Callable[[Any], Any]:
        if kind in self.converters:
            return self.converters[kind]
        if getattr(kind, "name", "") in ("DB_TYPE_NUMBER", "DB_TYPE_CLOB", "DB_TYPE_NCLOB"):
            handler = self.outputtypehandler
            read_as = handler(cursor, types.SimpleNamespace(name=name, type_code=kind)) if handler else None
            if kind.name == "DB_TYPE_NUMBER":  # sent as decimal digits; a float unless the driver is told otherwise
                return decimal.Decimal if read_as is decimal.Decimal else float
            return str if "LONG" in getattr(read_as, "name", "") else (lambda text: types.SimpleNamespace(read=text))
        return lambda cell: cell


def pyodbc_stand_in(server: Server) -> types.ModuleType:
    """Return a module that takes the place of pyodbc, which cannot be imported without a library of the machine."""
    module = types.ModuleType("pyodbc")

    class Error(Exception): ...

    class DatabaseError(Error): ...

    def connect(*arguments: Any, **options: Any) -> Connection:
        server.connected.append((arguments, options))
        if isinstance(server.refusal, Error) and not server.columns:
            raise server.refusal
        return Connection(server)

    names = ("InterfaceError", "OperationalError", "ProgrammingError", "IntegrityError", "InternalError", "DataError")
    for name in ("Error", "DatabaseError", "NotSupportedError", *names):
        base = Error if name in ("InterfaceError", "Error") else DatabaseError
        setattr(module, name, {"Error": Error, "DatabaseError": DatabaseError}.get(name) or type(name, (base,), {}))
    module.__dict__.update(connect=connect, version="5.2.0", paramstyle="qmark", Cursor=Cursor, Binary=bytes)
    module.__dict__.update({f"SQL_{name}": number for number, name in enumerate(("DECIMAL", "VARCHAR", "WVARCHAR"))})
    return module
