"""Making and upgrading the tables of the queue.

The tables and functions are procrastinate's. Its functions name them without a schema, so each function gets the schema
as its search path. Beside them is ``irp_worker``, with a row for each worker that is there.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from irp_pipeline.postgres.connections import administrative_connection
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.schemas import changing_schemas, schema_exists
from irp_pipeline.queue.names import QUEUE_SCHEMA

_OURS: Final = (
    """
    CREATE TABLE irp_queue.irp_worker (
        id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        host         text NOT NULL,
        pid          integer NOT NULL,
        pid_started  text NOT NULL,
        slots        integer NOT NULL,
        queues       text[] NOT NULL,
        is_ending    boolean NOT NULL DEFAULT false,
        started_ts   timestamptz NOT NULL DEFAULT clock_timestamp(),
        heartbeat_ts timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    """,
)
"""What we add to the tables of procrastinate, in the order in which it was added. Never change an entry."""

_VERSION: Final = """
CREATE TABLE IF NOT EXISTS irp_queue.irp_queue_version (
    procrastinate text NOT NULL,
    ours          integer NOT NULL
);
"""

# The functions of procrastinate name its tables without a schema.
_SEARCH_PATHS: Final = """
DO $$
DECLARE
    found regprocedure;
BEGIN
    FOR found IN SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                  WHERE n.nspname = 'irp_queue'
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = irp_queue, pg_temp', found);
    END LOOP;
END;
$$;
"""


def upgrade_queue() -> None:
    """Make the tables of the queue if they are missing, and upgrade them to this version of the package.

    Safe to repeat, and safe to call from any number of processes at once. It is one transaction.

    Raises:
        DatabaseError: the server refuses or is away, or the tables are those of a newer version.
    """
    wanted = (_migrations()[-1].stem, len(_OURS))
    with administrative_connection() as connection:
        if _version(connection) == wanted:
            return
    with changing_schemas() as connection:
        found = _version(connection)
        if found == wanted:
            return
        connection.exec_driver_sql("SET LOCAL search_path TO irp_queue")
        if found is None:
            connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS irp_queue")
            _run(connection, _whole())
            connection.exec_driver_sql(_VERSION)
            found = (wanted[0], 0)
        if found[0] > wanted[0] or found[1] > wanted[1]:
            raise DatabaseError(
                f"The tables of the queue in the schema {QUEUE_SCHEMA!r} are those of a newer version of this package "
                "or of procrastinate: install the newer irp-pipeline"
            )
        for migration in _migrations():
            if migration.stem > found[0]:
                _run(connection, migration.read_text(encoding="utf-8"))
        for addition in _OURS[found[1] :]:
            _run(connection, addition)
        _run(connection, _SEARCH_PATHS)
        connection.exec_driver_sql("DELETE FROM irp_queue.irp_queue_version")
        connection.exec_driver_sql("INSERT INTO irp_queue.irp_queue_version VALUES (%s, %s)", wanted)


def _version(connection: sa.Connection) -> tuple[str, int] | None:
    """Return the newest migration of procrastinate that was run, and how many of our additions."""
    if not schema_exists(connection, QUEUE_SCHEMA):
        return None
    if not sa.inspect(connection).has_table("irp_queue_version", schema=QUEUE_SCHEMA):
        return None
    row = connection.exec_driver_sql("SELECT procrastinate, ours FROM irp_queue.irp_queue_version").one()
    return str(row.procrastinate), int(row.ours)


def _run(connection: sa.Connection, script: str) -> None:
    connection.exec_driver_sql(script.replace("%", "%%"))


@functools.cache
def _migrations() -> list[Path]:
    """Return procrastinate's migrations, the oldest first."""
    from procrastinate.schema import SchemaManager

    return sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))


def _whole() -> str:
    from procrastinate.schema import SchemaManager

    return SchemaManager.get_schema()
