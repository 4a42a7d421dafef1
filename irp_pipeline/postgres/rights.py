"""Rights of other roles in a schema: reading its views, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from irp_pipeline.postgres.errors import DatabaseError
from irp_pipeline.postgres.schemas import changing_schemas, version_of
from irp_pipeline.postgres.statements import quote_identifier

VIEWS: Final = "v_irp_"
"""How the names of views for people begin."""

_VIEWS: Final = """
    SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relkind = 'v' AND starts_with(c.relname::text, :views) ORDER BY c.relname
"""
_REFUSED: Final = """
    SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relname = ANY (:names)
       AND NOT (has_schema_privilege(:role, n.oid, 'USAGE') AND has_table_privilege(:role, c.oid, 'SELECT'))
     ORDER BY c.relname
"""
_MORE: Final = """
    SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND starts_with(c.relname::text, 'irp_')
       AND has_table_privilege(:role, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
     ORDER BY c.relname
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingRole:
    """What a role may do in a schema now.

    Attributes:
        role: the role.
        views: the views that it may read.
        tables: tables of ours that it may read or change besides, since somebody else has said so.
        can_connect: whether it may connect to the database.
        database: the name of the database.
    """

    role: str
    views: tuple[str, ...]
    tables: tuple[str, ...]
    can_connect: bool
    database: str


def grant_read(schema: str, role: str) -> ReadingRole:
    """Let a role read the views of a schema, and nothing else. Safe to repeat, as after an upgrade that adds views.

    Args:
        schema: a checked schema name.
        role: an existing role.

    Returns:
        What the role may do now; rights that it had before are kept.

    Raises:
        DatabaseError: there is no such role, or no such schema of this version; the caller may not grant it; the server
            refuses or is away.
    """
    with changing_schemas() as connection:
        if not _value(connection, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :role)", role=role):
            raise DatabaseError(
                f"There is no role {role!r} on this server. To make it, as an administrator: "
                f"CREATE ROLE {quote_identifier(role)} LOGIN"
            )
        if version_of(connection, schema) is None:
            raise DatabaseError(f"There is no schema {schema!r} that irp made: run irp db init first")
        views = tuple(connection.execute(sa.text(_VIEWS), {"schema": schema, "views": VIEWS}).scalars())
        if not views:
            raise DatabaseError(f"The schema {schema!r} has no views yet: run irp db upgrade first")
        to, within = quote_identifier(role), quote_identifier(schema)
        named = ", ".join(f"{within}.{quote_identifier(view)}" for view in views)
        for statement in (f"GRANT USAGE ON SCHEMA {within} TO {to}", f"GRANT SELECT ON {named} TO {to}"):
            connection.exec_driver_sql(statement.replace("%", "%%"))
        # Who may not grant a right, but has it, only gets a warning from the server.
        values = {"schema": schema, "role": role, "names": list(views)}
        if refused := list(connection.execute(sa.text(_REFUSED), values).scalars()):
            raise DatabaseError(
                f"The role {role!r} may not read {', '.join(refused)}: only their owner can grant it. Run this command "
                "as the role that ran irp db init"
            )
        tables = tuple(connection.execute(sa.text(_MORE), {"schema": schema, "role": role}).scalars())
        database = str(_value(connection, "SELECT current_database()"))
        can_connect = "SELECT has_database_privilege(:role, current_database(), 'CONNECT')"
        return ReadingRole(
            role=role,
            views=views,
            tables=tables,
            can_connect=bool(_value(connection, can_connect, role=role)),
            database=database,
        )


def _value(connection: sa.Connection, query: str, **values: str) -> object:
    return connection.execute(sa.text(query), values).scalar()
