"""What a team has built around the old tables: views, foreign keys, triggers and rights.

They are read before the old tables are replaced, and made anew for ours. Their definitions come from PostgreSQL, with
every name qualified.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from irp_pipeline.operations.adoption.old_tables import AdoptionError, OldSchema
from irp_pipeline.operations.adoption.rows import execute
from irp_pipeline.postgres.statements import quote_identifier

TAKEN_NAME_ENDING: Final = "_before"
"""Ends the new name of a view whose own name one of our relations has."""

_VIEWS: Final = """
    WITH RECURSIVE dependent AS (
        SELECT r.ev_class AS oid, 1 AS depth
          FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
         WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
           AND d.refobjid = ANY(%s::oid[]) AND r.ev_class <> ALL(%s::oid[])
        UNION
        SELECT r.ev_class, dependent.depth + 1
          FROM dependent
          JOIN pg_catalog.pg_depend d ON d.refobjid = dependent.oid
           AND d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
          JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class <> dependent.oid
    )
    SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'm' AS is_materialised,
           pg_catalog.pg_get_viewdef(c.oid) AS definition, c.reloptions::text[] AS options,
           pg_catalog.pg_get_userbyid(c.relowner)::text AS owner, c.oid
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN (SELECT oid, max(depth) AS depth FROM dependent GROUP BY oid) found ON found.oid = c.oid
     ORDER BY found.depth, c.oid
"""
_FOREIGN_KEYS: Final = """
    SELECT k.conrelid::regclass::text AS table, k.conname::text AS name, k.confrelid::regclass::text AS referenced,
           pg_catalog.pg_get_constraintdef(k.oid) AS definition
      FROM pg_catalog.pg_constraint k
     WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = ANY(%s::oid[]) AND k.conrelid <> ALL(%s::oid[])
     ORDER BY 1, 2
"""
_TRIGGERS: Final = """
    SELECT t.tgname::text AS name, pg_catalog.pg_get_triggerdef(t.oid) AS definition, t.tgenabled::text AS enabled,
           t.tgrelid::regclass::text AS table
      FROM pg_catalog.pg_trigger t
     WHERE NOT t.tgisinternal AND t.tgrelid = ANY(%s::oid[])
     ORDER BY 4, 1
"""
_RIGHTS: Final = """
    SELECT c.oid, a.privilege_type::text AS privilege, a.is_grantable AS may_grant,
           CASE WHEN a.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END AS role
      FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
     WHERE c.oid = ANY(%s::oid[]) AND a.grantee <> c.relowner
"""
_ENUM_TYPES: Final = """
    SELECT DISTINCT t.oid::regtype::text
      FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = ANY(%s::oid[]) AND NOT a.attisdropped AND t.typtype = 'e'
     ORDER BY 1
"""
_ENABLED: Final = {"D": "DISABLE TRIGGER", "R": "ENABLE REPLICA TRIGGER", "A": "ENABLE ALWAYS TRIGGER"}


@dataclass(frozen=True)
class Right:
    """What a role may do with a relation. The role None is everybody."""

    privilege: str
    role: str | None
    may_grant: bool

    def grant(self, relation: str) -> str:
        """Return the statement that grants it."""
        role = "PUBLIC" if self.role is None else quote_identifier(self.role)
        return f"GRANT {self.privilege} ON {relation} TO {role}{' WITH GRANT OPTION' if self.may_grant else ''}"


@dataclass(frozen=True)
class View:
    """A view that reads old tables, directly or through other views."""

    schema: str
    name: str
    definition: str
    is_materialised: bool
    options: tuple[str, ...]
    owner: str
    rights: tuple[Right, ...]
    indexes: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The word for it in statements."""
        return "MATERIALIZED VIEW" if self.is_materialised else "VIEW"


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of another table to an old one."""

    table: str
    name: str
    referenced: str
    definition: str


@dataclass(frozen=True)
class Trigger:
    """A trigger of the team on an old table."""

    table: str
    name: str
    definition: str
    enabled: str


@dataclass(frozen=True)
class Surroundings:
    """Everything around the old tables that is made anew."""

    views: tuple[View, ...]
    foreign_keys: tuple[ForeignKey, ...]
    triggers: tuple[Trigger, ...]
    rights: tuple[tuple[str, Right], ...]
    enum_types: tuple[str, ...]
    """The enum types of the old columns, which views compare with. They may be in another schema."""


NOTHING_AROUND: Final = Surroundings((), (), (), (), ())


def read_surroundings(connection: sa.Connection, old: OldSchema) -> Surroundings:
    """Read what is around the old tables, which must still be in their place.

    Raises:
        AdoptionError: a table has row security, which cannot be made anew safely.
    """
    # With an empty path, PostgreSQL qualifies every name in a definition.
    execute(connection, "SET LOCAL search_path TO ''")
    tables = {
        int(oid): name
        for oid, name in connection.exec_driver_sql(
            """
            SELECT c.oid, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
                ON n.oid = c.relnamespace
             WHERE n.nspname = %s AND c.relname = ANY(%s)
            """,
            (old.name, list(old.columns)),
        )
    }
    oids = list(tables)
    secured = connection.exec_driver_sql(
        "SELECT oid::regclass::text FROM pg_catalog.pg_class WHERE oid = ANY(%s::oid[]) AND relrowsecurity", (oids,)
    ).scalars()
    if names := ", ".join(secured):
        raise AdoptionError(
            f"The tables {names} have row security, which the adoption cannot carry over. Drop the policies, adopt, "
            "and make them anew. Nothing was changed"
        )
    views = _mappings(connection, _VIEWS, oids, oids)
    granted = _mappings(connection, _RIGHTS, [*oids, *(view["oid"] for view in views)])
    rights: dict[int, list[Right]] = {}
    for row in granted:
        rights.setdefault(int(row["oid"]), []).append(Right(row["privilege"], row["role"], row["may_grant"]))
    return Surroundings(
        views=tuple(_view(connection, row, rights.get(int(row["oid"]), ())) for row in views),
        foreign_keys=tuple(ForeignKey(**row) for row in _mappings(connection, _FOREIGN_KEYS, oids, oids)),
        triggers=tuple(Trigger(**row) for row in _mappings(connection, _TRIGGERS, oids)),
        rights=tuple((tables[oid], right) for oid in oids for right in rights.get(oid, ())),
        enum_types=tuple(connection.exec_driver_sql(_ENUM_TYPES, (oids,)).scalars()),
    )


def remove(connection: sa.Connection, around: Surroundings) -> None:
    """Remove views and foreign keys, so that the old tables can go."""
    for view in reversed(around.views):
        execute(connection, f"DROP {view.kind} {_qualified(view.schema, view.name)}")
    for key in around.foreign_keys:
        execute(connection, f"ALTER TABLE {key.table} DROP CONSTRAINT {quote_identifier(key.name)}")


def restore(connection: sa.Connection, around: Surroundings, schema: str) -> dict[str, str]:
    """Make everything anew for our tables, which have the names of the old ones.

    Returns:
        The new name of each view whose own one of our relations has, by the old name; both with their schema.

    Raises:
        AdoptionError: PostgreSQL refuses one of them for our tables.
    """
    execute(connection, "SET LOCAL search_path TO ''")
    for table, right in around.rights:
        execute(connection, right.grant(_qualified(schema, table)))
    for key in around.foreign_keys:
        _make(
            connection,
            f"ALTER TABLE {key.table} ADD CONSTRAINT {quote_identifier(key.name)} {key.definition}",
            f"the foreign key {key.name} of {key.table}",
        )
    for trigger in around.triggers:
        _make(connection, trigger.definition, f"the trigger {trigger.name} of {trigger.table}")
        if trigger.enabled in _ENABLED:
            how = _ENABLED[trigger.enabled]
            execute(connection, f"ALTER TABLE {trigger.table} {how} {quote_identifier(trigger.name)}")
    return _restore_views(connection, around.views)


def _restore_views(connection: sa.Connection, views: Iterable[View]) -> dict[str, str]:
    """Make views anew. One whose name a relation of ours has gets another one; views that read it follow it."""
    views = tuple(views)
    aside = {
        view: f"irp_aside_{number}"
        for number, view in enumerate(views)
        if _exists(connection, _qualified(view.schema, view.name))
    }
    for view, name in aside.items():
        execute(connection, f"ALTER TABLE {_qualified(view.schema, view.name)} RENAME TO {quote_identifier(name)}")
    for view in views:
        _restore_view(connection, view)
    renamed = {}
    for view, name in aside.items():
        new = view.name + TAKEN_NAME_ENDING
        while _exists(connection, _qualified(view.schema, new)):
            new += TAKEN_NAME_ENDING
        relation = _qualified(view.schema, view.name)
        execute(connection, f"ALTER {view.kind} {relation} RENAME TO {quote_identifier(new)}")
        ours = _qualified(view.schema, name)
        execute(connection, f"ALTER TABLE {ours} RENAME TO {quote_identifier(view.name)}")
        renamed[f"{view.schema}.{view.name}"] = f"{view.schema}.{new}"
    return renamed


def _restore_view(connection: sa.Connection, view: View) -> None:
    relation = _qualified(view.schema, view.name)
    options = f" WITH ({', '.join(view.options)})" if view.options else ""
    what = f"the view {view.schema}.{view.name}"
    _make(connection, f"CREATE {view.kind} {relation}{options} AS {view.definition}", what)
    for index in view.indexes:
        _make(connection, index, f"an index of {what}")
    for right in view.rights:
        execute(connection, right.grant(relation))
    if view.owner != connection.exec_driver_sql("SELECT current_user::text").scalar():
        execute(connection, f"ALTER {view.kind} {relation} OWNER TO {quote_identifier(view.owner)}")


def _exists(connection: sa.Connection, relation: str) -> bool:
    return connection.exec_driver_sql("SELECT to_regclass(%s)", (relation,)).scalar() is not None


def _make(connection: sa.Connection, statement: str, what: str) -> None:
    try:
        execute(connection, statement)
    except sa.exc.ProgrammingError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise AdoptionError(
            f"After the adoption there could not be {what}: {reason}. Nothing was changed. Drop it, adopt, and make it "
            "anew for the new tables"
        ) from error


def _view(connection: sa.Connection, row: dict[str, Any], rights: Iterable[Right]) -> View:
    indexes = (
        connection.exec_driver_sql(
            "SELECT pg_catalog.pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index WHERE indrelid = %s", (row["oid"],)
        )
        .scalars()
        .all()
    )
    return View(
        schema=row["schema"],
        name=row["name"],
        definition=row["definition"],
        is_materialised=row["is_materialised"],
        options=tuple(row["options"] or ()),
        owner=row["owner"],
        rights=tuple(rights),
        indexes=tuple(indexes),
    )


def _mappings(connection: sa.Connection, query: str, *values: list[int]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]


def _qualified(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"
