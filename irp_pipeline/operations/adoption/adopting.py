"""The adoption of a schema, in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from irp_pipeline.helpers.db_context import check_schema_name
from irp_pipeline.operations.adoption import old_names, surroundings
from irp_pipeline.operations.adoption.checks import refuse_if_not_all_arrived, refuse_what_has_no_repair
from irp_pipeline.operations.adoption.old_tables import AdoptionError, OldSchema, find_old_schema, require_columns
from irp_pipeline.operations.adoption.rows import all_repairs, copy_rows, execute
from irp_pipeline.operations.records import table_names, without_triggers
from irp_pipeline.postgres.schemas import changing_schemas, latest_version, migrate, schema_exists, version_of
from irp_pipeline.postgres.statements import quote_identifier
from irp_pipeline.queue.schema import upgrade_queue

_LOCK_SECONDS: Final = 20
_LOCK_NOT_AVAILABLE: Final = "55P03"
_STILL_NEEDED: Final = "2BP01"
_IDS_SHOWN: Final = 10


@dataclass(frozen=True)
class Repaired:
    """A repair that was made.

    Attributes:
        repair: its name.
        table: the table.
        rows: how many rows it changed.
        ids: the ids of the first of them.
        meaning: what was done.
    """

    repair: str
    table: str
    rows: int
    ids: tuple[int, ...]
    meaning: str


@dataclass(frozen=True)
class Adoption:
    """What an adoption did, or would do.

    Attributes:
        source: the schema of the old framework.
        schema: the schema that has the rows now.
        version: its version.
        rows: how many rows each table had.
        repaired: the repairs.
        views: the views that were made anew, with their schema.
        renamed_views: the new names of views whose own name one of our relations has.
        foreign_keys: the tables that refer to the rows, each with its foreign key.
        triggers: the team's triggers that were made anew.
        was_done: whether the schema was one of this package already, so that nothing was changed.
    """

    source: str
    schema: str
    version: str
    rows: Mapping[str, int]
    repaired: tuple[Repaired, ...] = ()
    views: tuple[str, ...] = ()
    renamed_views: Mapping[str, str] | None = None
    foreign_keys: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    was_done: bool = False


class _RehearsedError(Exception):
    """Ends a rehearsal, so that its transaction is rolled back."""

    def __init__(self, outcome: Adoption) -> None:
        super().__init__()
        self.outcome = outcome


def adopt(schema: str, copy_to: str | None = None, *, dry_run: bool = False) -> Adoption:
    """Turn a schema of the old framework into one of this package, in one transaction.

    Every row is kept, with its id. An interruption at any point leaves the schema as it was.

    Args:
        schema: the schema with the old tables.
        copy_to: leave it as it is, and copy its rows to this schema, which must not have tables of ours.
        dry_run: do everything, and take it back. The old tables are locked for that time.

    Returns:
        What was done. If the schema is one of this package already, nothing is.

    Raises:
        AdoptionError: no tables of the old framework; rows that have no repair, which are listed; somebody works with
            the tables; or something of the team cannot be made anew. Nothing is changed then.
        DatabaseError: the server refuses or is away.
        ValueError: not a schema name.
    """
    target = check_schema_name(schema if copy_to is None else copy_to)
    if target == check_schema_name(schema) and copy_to is not None:
        raise AdoptionError(f"The schema {schema!r} cannot be copied to itself: name another one")
    try:
        with changing_schemas() as connection:
            outcome = _adopt(connection, schema, target)
            if dry_run:
                raise _RehearsedError(outcome)
    except _RehearsedError as rehearsed:
        return rehearsed.outcome
    upgrade_queue()
    return outcome


def _adopt(connection: sa.Connection, schema: str, target: str) -> Adoption:
    in_place = schema == target
    if in_place and (version := version_of(connection, schema)) is not None:
        return Adoption(schema, schema, version, {}, was_done=True)
    old = _require_old(connection, schema)
    if not in_place and (version_of(connection, target) or find_old_schema(connection, target)):
        raise AdoptionError(
            f"The schema {target!r} has tables already: name one that does not exist. Nothing was changed"
        )
    _lock(connection, old, "ACCESS EXCLUSIVE" if in_place else "SHARE")
    refuse_what_has_no_repair(connection, old)
    around = surroundings.read_surroundings(connection, old) if in_place else surroundings.NOTHING_AROUND
    if in_place:
        surroundings.remove(connection, around)
        old = _move_away(connection, old)
    migrate(connection, target)
    old_names.add_columns(connection, target)
    with without_triggers(connection, target, table_names(connection, target)):
        rows = copy_rows(connection, old, target)
    refuse_if_not_all_arrived(connection, old, target)
    if in_place:
        _drop(connection, old)
    old_names.add_triggers(connection, target)
    for kind in around.enum_types:
        old_names.let_be_text(connection, kind)
    renamed = surroundings.restore(connection, around, target)
    return Adoption(
        source=schema,
        schema=target,
        version=latest_version(),
        rows=rows,
        repaired=_repaired(connection, target),
        views=tuple(f"{view.schema}.{view.name}" for view in around.views),
        renamed_views=renamed,
        foreign_keys=tuple(f"{key.table}: {key.name}" for key in around.foreign_keys),
        triggers=tuple(f"{trigger.table}: {trigger.name}" for trigger in around.triggers),
    )


def _require_old(connection: sa.Connection, schema: str) -> OldSchema:
    old = find_old_schema(connection, schema)
    if old is None:
        why = "it does not have them" if schema_exists(connection, schema) else "it does not exist"
        raise AdoptionError(
            f"The schema {schema!r} has no tables of the old framework to adopt: {why}. Name the schema that has them "
            "with --db-schema"
        )
    require_columns(old)
    return old


def _lock(connection: sa.Connection, old: OldSchema, mode: str) -> None:
    """Lock all old tables, without making others wait long for somebody who keeps us waiting.

    Raises:
        AdoptionError: somebody works with them.
    """
    execute(connection, f"SET LOCAL lock_timeout TO '{_LOCK_SECONDS}s'")
    tables = ", ".join(old.qualified(table.name) for table in old.tables)
    try:
        execute(connection, f"LOCK TABLE {tables} IN {mode} MODE")
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise AdoptionError(
            f"Somebody works with the tables in schema {old.name!r}: they could not be locked within {_LOCK_SECONDS} "
            "seconds. End the notebooks and programs that use them, and adopt again. Nothing was changed"
        ) from error


def _move_away(connection: sa.Connection, old: OldSchema) -> OldSchema:
    """Move the old tables, with their indexes and sequences, to a schema of their own, so that ours have room."""
    aside = OldSchema(f"irp_adoption_{uuid.uuid4().hex}", old.columns)
    execute(connection, f"CREATE SCHEMA {quote_identifier(aside.name)}")
    for table in old.tables:
        execute(connection, f"ALTER TABLE {old.qualified(table.name)} SET SCHEMA {quote_identifier(aside.name)}")
    return aside


def _drop(connection: sa.Connection, old: OldSchema) -> None:
    """Drop the old tables, if nothing but themselves depends on them.

    Raises:
        AdoptionError: something that cannot be made anew depends on them.
    """
    try:
        execute(connection, f"DROP TABLE {', '.join(old.qualified(table.name) for table in old.tables)}")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _STILL_NEEDED:
            raise
        diagnostics: Any = getattr(error.orig, "diag", None)
        needed = "; ".join((diagnostics.message_detail or "").replace(f"{old.name}.", "").splitlines())
        raise AdoptionError(
            f"Something of yours depends on the old tables in a way that cannot be made anew: {needed}. Drop it, "
            "adopt, and make it anew for the new tables. Nothing was changed"
        ) from error
    execute(connection, f"DROP SCHEMA {quote_identifier(old.name)}")


def _repaired(connection: sa.Connection, schema: str) -> tuple[Repaired, ...]:
    found = []
    for table, repair in all_repairs():
        count, ids = connection.exec_driver_sql(
            f"""
            SELECT count(*), (array_agg(id ORDER BY id))[:{_IDS_SHOWN}]
              FROM {quote_identifier(schema).replace("%", "%%")}.{quote_identifier(table)}
             WHERE adopted -> 'repaired' ? %s
            """,  # noqa: S608 - quoted
            (repair.name,),
        ).one()
        if count:
            found.append(Repaired(repair.name, table, count, tuple(ids), repair.meaning))
    return tuple(found)
