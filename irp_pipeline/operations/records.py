"""The rows of a schema: reading all of them in one snapshot, and loading them into empty tables.

The database says which tables and columns there are, so that a schema of any version can be read. What the rows say
about files is also read here, since it must come from the same snapshot. This module knows nothing about archives.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final

import psycopg2
import sqlalchemy as sa

from irp_pipeline.cycle_files import JOBS
from irp_pipeline.operations.archive import Sink, Table
from irp_pipeline.postgres.errors import database_error
from irp_pipeline.postgres.running import execute_command, execute_scalar, fetch_all, transaction
from irp_pipeline.postgres.schemas import VERSION_TABLE
from irp_pipeline.postgres.statements import quote_identifier
from irp_pipeline.postgres.transactions import with_cursor

TRAIL: Final = "irp_audit"
_ARTEFACTS_SINCE: Final = "0006"
_JOBS_SINCE: Final = "0005"

# Every server must read the output of COPY in the same way, whatever its settings.
_FORMATS: Final = (
    "SET LOCAL DateStyle TO 'ISO, YMD'",
    "SET LOCAL IntervalStyle TO 'postgres'",
    "SET LOCAL extra_float_digits TO 1",
    "SET LOCAL bytea_output TO 'hex'",
)

_TABLES: Final = """
    SELECT c.relname AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns,
           coalesce(array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attidentity <> ''), '{}') AS counting
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
       AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND starts_with(c.relname::text, 'irp_') AND c.relname <> %s
     GROUP BY c.relname
     ORDER BY c.relname
"""
_REFERENCES: Final = """
    SELECT c.relname AS name, r.relname AS referenced
      FROM pg_catalog.pg_constraint k
      JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
      JOIN pg_catalog.pg_class r ON r.oid = k.confrelid AND r.relnamespace = c.relnamespace
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = %s AND k.contype = 'f' AND c.oid <> r.oid
"""
_NEXT_VALUE: Final = "SELECT last_value + is_called::integer FROM {}"

# If two steps wrote the same file, the later one counts.
_ARTEFACTS: Final = """
    SELECT DISTINCT ON (c.id, a.artefact_key)
           c.cycle_name || '/' || a.artefact_key AS path, a.sha256, a.bytes
      FROM irp_cycle c
      JOIN irp_stage sg ON sg.cycle_id = c.id
      JOIN irp_step st ON st.stage_id = sg.id
      JOIN LATERAL (
            SELECT id, completed_ts FROM irp_step_run
             WHERE step_id = st.id AND status = 'COMPLETED' ORDER BY run_num DESC LIMIT 1) done ON true
      JOIN irp_artefact a ON a.step_run_id = done.id
     ORDER BY c.id, a.artefact_key, done.completed_ts DESC
"""
_RESULTS: Final = """
    SELECT c.cycle_name, j.job_key, j.result_data -> 'files' AS files
      FROM irp_job j
      JOIN irp_batch b ON b.id = j.batch_id
      JOIN irp_configuration f ON f.id = b.configuration_id
      JOIN irp_cycle c ON c.id = f.cycle_id
     WHERE j.status = 'FINISHED' AND NOT j.skipped AND j.result_data ? 'files'
"""


@dataclass(frozen=True)
class RecordedFile:
    """A recorded file: its place below the folder of the schema's cycles, its SHA-256 and its size."""

    path: str
    sha256: str
    bytes: int


@contextmanager
def snapshot() -> Iterator[None]:
    """Read the current schema in one snapshot until the block ends.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    with transaction():
        execute_command("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for setting in _FORMATS:
            execute_command(setting)
        yield


def read_version() -> str:
    """Return the revision of the current schema, within a snapshot."""
    return str(execute_scalar(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a name of ours


def recorded_files(version: str) -> list[RecordedFile]:
    """Return the files that the records of the current schema name: artefacts, and results of jobs.

    Args:
        version: the revision of the schema.
    """
    rows: list[Mapping[str, Any]] = []
    if version >= _ARTEFACTS_SINCE:
        rows += fetch_all(_ARTEFACTS)
    if version >= _JOBS_SINCE:
        for job in fetch_all(_RESULTS):
            files = job["files"].values() if isinstance(job["files"], dict) else ()
            rows += [
                {**file, "path": f"{job['cycle_name']}/{JOBS}/{job['job_key']}/{file['path']}"}
                for file in files
                if isinstance(file, dict) and {"path", "sha256", "bytes"} <= file.keys()
            ]
    return [RecordedFile(row["path"], row["sha256"], row["bytes"]) for row in rows]


def read_tables(schema: str, add: Callable[[str, Callable[[Sink], object]], Any]) -> tuple[Table, ...]:
    """Write the rows of all tables of the current schema.

    Args:
        schema: its name.
        add: adds a member to an archive, given its name and a function that writes it.
    """
    return tuple(_read_table(schema, table, add) for table in fetch_all(_TABLES, (schema, VERSION_TABLE)))


def _read_table(schema: str, table: Mapping[str, Any], add: Callable[[str, Callable[[Sink], object]], Any]) -> Table:
    columns = ", ".join(map(quote_identifier, table["columns"]))
    statement = f"COPY {quote_identifier(table['name'])} ({columns}) TO STDOUT"
    rows = 0

    def write(sink: Sink) -> None:
        nonlocal rows

        def run(cursor: Any) -> int:
            cursor.copy_expert(statement, sink)
            return int(cursor.rowcount)

        rows = with_cursor(run, statement)

    member = add(f"tables/{table['name']}.copy", write)
    next_values = {column: _next_value(schema, table["name"], column) for column in table["counting"]}
    return Table(table["name"], tuple(table["columns"]), rows, member, next_values)


def _next_value(schema: str, table: str, column: str) -> int:
    """Return the next value of an identity column. Since it is read after the rows, it is above all of theirs."""
    qualified = f"{quote_identifier(schema)}.{quote_identifier(table)}"
    sequence = execute_scalar("SELECT pg_catalog.pg_get_serial_sequence(%s, %s)", (qualified, column))
    return int(execute_scalar(_NEXT_VALUE.format(sequence)))


# --- loading ------------------------------------------------------------------------------------------------------


def load_tables(
    connection: sa.Connection, schema: str, tables: Sequence[Table], content: Callable[[Table], Any]
) -> list[str]:
    """Load rows into the empty tables of a schema, in a transaction.

    Args:
        connection: with an open transaction.
        schema: a schema of the same version as the rows.
        tables: what to load.
        content: opens the rows of a table, as a context manager.

    Returns:
        The names of tables that the schema does not have: irp did not make them, and their rows are not loaded.

    Raises:
        DatabaseError: the server refuses rows.
    """
    known = table_names(connection, schema)
    by_name = {table.name: table for table in tables}
    for setting in _FORMATS:
        connection.exec_driver_sql(setting)
    with without_triggers(connection, schema, known):
        for name in known:
            if name in by_name:
                with content(by_name[name]) as rows:
                    _copy_in(connection, schema, by_name[name], rows)
                set_next_values(connection, schema, name, by_name[name].next_values)
    return sorted(set(by_name) - set(known))


def replace_rows(connection: sa.Connection, schema: str, source: str) -> None:
    """Replace the rows of a schema by those of another schema of the same version, in a transaction.

    The tables themselves stay, with the rights of other roles and the views that depend on them. So does the audit
    trail, which gets the entries of the source that it does not have.

    Args:
        connection: with an open transaction.
        schema: the schema whose rows are replaced.
        source: the schema with the new rows.

    Raises:
        DatabaseError: the server refuses; or a table that irp did not make refers to rows that would be removed.
    """
    known = table_names(connection, source)
    listed = ", ".join(_qualified(schema, name) for name in known if name != TRAIL)
    _execute(connection, f"TRUNCATE {listed}")
    columns = {row["name"]: row for row in _catalog(connection, source)}
    with without_triggers(connection, schema, known):
        for name in known:
            names = ", ".join(map(quote_identifier, columns[name]["columns"]))
            target, rows = _qualified(schema, name), _qualified(source, name)
            if name == TRAIL:
                _add_to_trail(connection, target, rows, columns[name]["columns"])
                continue
            _execute(connection, f"INSERT INTO {target} ({names}) SELECT {names} FROM {rows}")  # noqa: S608 - quoted
            set_next_values(connection, schema, name, _counters(connection, source, columns[name]))


def _add_to_trail(connection: sa.Connection, target: str, rows: str, columns: Sequence[str]) -> None:
    """Add what the trail does not have: what was done stays in it, although its effects are replaced."""
    names = ", ".join(quote_identifier(column) for column in columns if column != "id")
    _execute(
        connection,
        f"INSERT INTO {target} ({names}) SELECT {names} FROM {rows} ORDER BY id ON CONFLICT (entry_key) DO NOTHING",  # noqa: S608 - quoted
    )


def set_next_values(connection: sa.Connection, schema: str, table: str, next_values: Mapping[str, int]) -> None:
    """Set the next values of the identity columns of a table; a rollback undoes this."""
    for column, value in next_values.items():
        _execute(
            connection,
            f"ALTER TABLE {_qualified(schema, table)} ALTER COLUMN {quote_identifier(column)} RESTART WITH {value:d}",
        )


def table_names(connection: sa.Connection, schema: str) -> list[str]:
    """Return the tables of a schema, each after those that it refers to."""
    known = {table["name"]: () for table in _catalog(connection, schema)}
    order: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter(known)
    for row in connection.exec_driver_sql(_REFERENCES, (schema,)).mappings():
        if {row["name"], row["referenced"]} <= known.keys():  # others may refer to our tables
            order.add(row["name"], row["referenced"])
    return list(order.static_order())


def _catalog(connection: sa.Connection, schema: str) -> list[Mapping[str, Any]]:
    return [dict(row) for row in connection.exec_driver_sql(_TABLES, (schema, VERSION_TABLE)).mappings()]


def _counters(connection: sa.Connection, schema: str, table: Mapping[str, Any]) -> dict[str, int]:
    found = {}
    for column in table["counting"]:
        sequence = connection.exec_driver_sql(
            "SELECT pg_catalog.pg_get_serial_sequence(%s, %s)", (_qualified(schema, table["name"]), column)
        ).scalar()
        found[column] = int(_execute(connection, _NEXT_VALUE.format(sequence)).scalar())
    return found


@contextmanager
def without_triggers(connection: sa.Connection, schema: str, tables: Iterable[str]) -> Iterator[None]:
    """Load rows unchanged: triggers already checked and filled them when they were first written."""
    names = list(tables)
    for name in names:
        _execute(connection, f"ALTER TABLE {_qualified(schema, name)} DISABLE TRIGGER USER")
    yield
    for name in names:
        _execute(connection, f"ALTER TABLE {_qualified(schema, name)} ENABLE TRIGGER USER")


def _copy_in(connection: sa.Connection, schema: str, table: Table, rows: IO[bytes]) -> None:
    columns = ", ".join(map(quote_identifier, table.columns))
    statement = f"COPY {_qualified(schema, table.name)} ({columns}) FROM STDIN"
    driver: Any = connection.connection.dbapi_connection
    try:
        with driver.cursor() as cursor:
            cursor.copy_expert(statement, rows)
    except psycopg2.Error as error:
        raise database_error(error, statement=statement, dbapi=driver) from error


def _qualified(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def _execute(connection: sa.Connection, statement: str) -> Any:
    return connection.exec_driver_sql(statement.replace("%", "%%"))
