"""Making, migrating and dropping a schema.

Each schema has its own tables and its own ``irp_schema_version``. The Alembic revisions in
:mod:`irp_pipeline.migrations` bring it up to date, in one transaction under one advisory lock, since ``CREATE SCHEMA
IF NOT EXISTS`` can collide with itself and Alembic keeps its state in module globals.

Callers use ``init_database`` and ``drop_schema`` of :mod:`irp_pipeline.helpers.database`.
"""

import functools
import os
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from irp_pipeline.postgres.connections import administrative_connection
from irp_pipeline.postgres.context import get_current_schema
from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.running import execute_scalar
from irp_pipeline.postgres.statements import quote_identifier
from irp_pipeline.postgres.transactions import in_transaction

VERSION_TABLE: Final = "irp_schema_version"
_FIRST_TABLE: Final = "irp_cycle"

# The key of the advisory lock that all schema changes of a database share: any number, the same in every process.
_ADVISORY_LOCK: Final = 7_391_645_220
_OWNER: Final = """
SELECT r.rolname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
 WHERE d.datname = current_database() AND NOT r.rolcanlogin AND NOT r.rolsuper
   AND pg_has_role(session_user, r.oid, 'MEMBER')
"""
# Alembic keeps its context in module globals, so one migration at a time in a process.
_process_lock = threading.Lock()


def _free_lock_in_child() -> None:
    """Make a new lock: a thread of the parent may hold the old one, and a forked child does not have that thread."""
    global _process_lock
    _process_lock = threading.Lock()


os.register_at_fork(after_in_child=_free_lock_in_child)


@functools.cache
def latest_version() -> str:
    """Return the newest revision of this package, such as ``0002``."""
    return max(
        path.name[:4]
        for path in (Path(__file__).parent.parent / "migrations" / "versions").glob("[0-9][0-9][0-9][0-9]_*.py")
    )


def current_version(schema: str) -> str | None:
    """Return the revision of a schema, or None if it does not exist or was never initialised.

    Raises:
        DatabaseError: the server is away.
    """
    with administrative_connection() as connection:
        return version_of(connection, schema)


def version_problem(schema: str, version: str | None) -> str | None:
    """Return what keeps this package from working with a schema of that version; None if nothing does."""
    latest = latest_version()
    if version is None or version == latest:
        return None
    if version < latest:
        return f"The schema {schema!r} has version {version}, and this package works with {latest}: run irp db upgrade"
    return newer_version(schema, version)


def newer_version(schema: str, version: str) -> str:
    """Return why this package cannot work with a schema of a newer version."""
    return (
        f"The schema {schema!r} has version {version}, which is newer than that of this package "
        f"({latest_version()}): install the newer irp-pipeline"
    )


def require_this_version() -> None:
    """Refuse the current schema if its tables are those of another version of this package.

    Raises:
        DatabaseError: they are, or the schema has no tables.
    """
    version = execute_scalar(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    if problem := version_problem(get_current_schema(), version):
        raise DatabaseError(problem)


def list_initialised_schemas() -> list[str]:
    """Return the schemas of the database that hold our tables.

    Raises:
        DatabaseError: the server is away.
    """
    query = sa.text(
        "SELECT schemaname FROM pg_catalog.pg_tables WHERE tablename = :table"
        " AND has_schema_privilege(schemaname, 'USAGE') ORDER BY schemaname"
    )
    with administrative_connection() as connection:
        return list(connection.execute(query, {"table": VERSION_TABLE}).scalars())


Guard = Callable[[sa.Connection, str, str], None]
"""Raises if a schema must not be changed now. Gets the connection of the change, the schema and its revision."""


def upgrade(schema: str, target: str = "head", guard: Guard | None = None) -> None:
    """Make the schema if it is missing and migrate it, in one transaction.

    Args:
        schema: a checked schema name.
        target: the revision to stop at.
        guard: called before existing tables are changed.

    Raises:
        DatabaseError: the server refuses or is away; the schema has our tables without a version, or a newer version.
    """
    if in_transaction():
        raise DatabaseError("init_database cannot run inside a transaction(): end the transaction first")
    latest = latest_version()
    wanted = latest if target == "head" else target
    if current_version(schema) == wanted:
        return
    with changing_schemas() as connection:
        current = version_of(connection, schema)
        if guard is not None and current is not None and current < wanted:
            guard(connection, schema, current)
        migrate(connection, schema, target)


def drop(schema: str, guard: Guard | None = None) -> bool:
    """Drop a schema with everything in it; return whether there was one.

    Args:
        schema: a checked schema name.
        guard: called before our tables are dropped.

    Raises:
        DatabaseError: the server refuses or is away.
    """
    if in_transaction():
        raise DatabaseError("drop_schema cannot run inside a transaction(): end the transaction first")
    with changing_schemas() as connection:
        if not schema_exists(connection, schema):
            return False
        if guard is not None and (current := version_of(connection, schema)) is not None:
            guard(connection, schema, current)
        connection.exec_driver_sql(f"DROP SCHEMA {quote_identifier(schema).replace('%', '%%')} CASCADE")
    return True


@contextmanager
def changing_schemas() -> Iterator[sa.Connection]:
    """Yield a connection with an open transaction, beside which nobody else makes, migrates or drops a schema.

    If the database belongs to a role that nobody logs in as, the transaction works as that role, and what it makes
    belongs to it.

    Raises:
        DatabaseError: the server refuses or is away.
    """
    with administrative_connection() as connection, _process_lock, connection.begin():
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if (owner := connection.exec_driver_sql(_OWNER).scalar()) is not None:
            connection.exec_driver_sql(f"SET LOCAL ROLE {quote_identifier(owner).replace('%', '%%')}")
        yield connection


def migrate(connection: sa.Connection, schema: str, target: str = "head") -> None:
    """Make a schema if it is missing and migrate it, in the transaction of :func:`changing_schemas`.

    Args:
        connection: that one's.
        schema: a checked schema name.
        target: the revision to stop at.

    Raises:
        DatabaseError: the server refuses; there are tables of ours without a version, or a newer version.
    """
    current = version_of(connection, schema)
    if current is not None and current > latest_version():
        raise DatabaseError(newer_version(schema, current))
    if current is None and _has_table(connection, schema, _FIRST_TABLE):
        raise DatabaseError(
            f"The schema {schema!r} has a table {_FIRST_TABLE} that this package did not make. Nothing was changed. If "
            f"the old framework made it, keep its rows with: irp db adopt --db-schema {shlex.quote(schema)}. Otherwise "
            "use another schema, or move the table away"
        )
    if not schema_exists(connection, schema):
        connection.exec_driver_sql(f"CREATE SCHEMA {quote_identifier(schema).replace('%', '%%')}")
    connection.execute(sa.text("SELECT set_config('search_path', :path, true)"), {"path": quote_identifier(schema)})
    _run_alembic(connection, schema, target)


def _run_alembic(connection: sa.Connection, schema: str, target: str) -> None:
    import alembic.command
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", "irp_pipeline:migrations")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    # Quoted here, since SQLAlchemy does not quote a name that ends with a line break.
    config.attributes["schema"] = sa.quoted_name(schema, quote=True)
    alembic.command.upgrade(config, target)


def version_of(connection: sa.Connection, schema: str) -> str | None:
    """Return what :func:`current_version` does, as the transaction of a connection sees it."""
    if not _has_table(connection, schema, VERSION_TABLE):
        return None
    versions = sa.table(VERSION_TABLE, sa.column("version_num"), schema=sa.quoted_name(schema, quote=True))
    version: str | None = connection.execute(sa.select(versions.c.version_num)).scalar()
    return version


def _has_table(connection: sa.Connection, schema: str, table: str) -> bool:
    return sa.inspect(connection).has_table(table, schema=schema)


def schema_exists(connection: sa.Connection, schema: str) -> bool:
    """Tell whether there is a schema, ours or not."""
    return bool(
        connection.execute(
            sa.text("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = :schema)"), {"schema": schema}
        ).scalar()
    )
