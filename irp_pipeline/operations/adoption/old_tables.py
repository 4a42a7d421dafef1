"""The tables and columns of the old framework, and whether a schema has them. This module changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from irp_pipeline.errors import IrpError
from irp_pipeline.postgres.connections import administrative_connection
from irp_pipeline.postgres.schemas import VERSION_TABLE
from irp_pipeline.postgres.statements import quote_identifier


class AdoptionError(IrpError):
    """A schema cannot be adopted. Nothing was changed."""


@dataclass(frozen=True)
class OldColumn:
    """A column of an old table.

    Attributes:
        name: its name.
        type: the type as which it is read.
        ours: the column of our table that has its content; None if there is none.
        is_newer: whether the earlier state of the old framework does not have it.
    """

    name: str
    type: str
    ours: str | None
    is_newer: bool = False

    @property
    def stays(self) -> bool:
        """Whether an adopted table has it beside our columns, for statements that were written for it."""
        return self.ours != self.name


@dataclass(frozen=True)
class OldTable:
    """A table of the old framework.

    Attributes:
        name: its name, which is also that of ours.
        columns: its columns.
        statuses: the statuses that it may contain, by column.
        parents: the table to which each column refers that must refer to a row.
        filled: columns that must not be empty: nothing could be put there.
    """

    name: str
    columns: tuple[OldColumn, ...]
    statuses: Mapping[str, tuple[str, ...]]
    parents: Mapping[str, str]
    filled: tuple[str, ...]

    @property
    def staying(self) -> list[OldColumn]:
        """The old columns that stay beside ours."""
        return [column for column in self.columns if column.stays]

    @property
    def carried(self) -> list[OldColumn]:
        """The old columns whose content has a place in our table."""
        return [column for column in self.columns if column.ours is not None]


def _column(spec: str) -> OldColumn:
    """Read ``name type``, ``name type > ours`` or ``name type -``; a star marks what the earlier state lacks."""
    is_newer = spec.endswith(" *")
    name, kind, *rest = spec.removesuffix(" *").split()
    ours = name if not rest else None if rest == ["-"] else rest[1]
    return OldColumn(name, kind, ours, is_newer)


def _columns(*specs: str) -> tuple[OldColumn, ...]:
    return tuple(map(_column, specs))


ENUM_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "cycle_status_enum": ("ACTIVE", "ARCHIVED"),
    "step_status_enum": ("ACTIVE", "COMPLETED", "FAILED", "SKIPPED"),
    "configuration_status_enum": ("NEW", "VALID", "ACTIVE", "ERROR"),
    "batch_status_enum": ("INITIATED", "ACTIVE", "COMPLETED", "FAILED", "CANCELLED", "ERROR"),
    "job_status_enum": (
        *("INITIATED", "SUBMITTED", "PENDING", "QUEUED", "RUNNING", "FINISHED", "FAILED"),
        *("CANCEL_REQUESTED", "CANCELLING", "CANCELLED", "ERROR"),
    ),
}
"""The enum types of the old framework. They stay in the schema."""

OLD_TABLES: Final = (
    OldTable(
        "irp_cycle",
        _columns("id bigint", "cycle_name text", "status text", "created_ts timestamptz", "archived_ts timestamptz"),
        {"status": ENUM_TYPES["cycle_status_enum"]},
        {},
        ("cycle_name",),
    ),
    OldTable(
        "irp_stage",
        _columns("id bigint", "cycle_id bigint", "stage_num integer", "stage_name text", "created_ts timestamptz"),
        {},
        {"cycle_id": "irp_cycle"},
        ("stage_num", "stage_name"),
    ),
    OldTable(
        "irp_step",
        _columns(
            *("id bigint", "stage_id bigint", "step_num integer", "step_name text", "notebook_path text"),
            *("requires_batch boolean - *", "created_ts timestamptz"),
        ),
        {},
        {"stage_id": "irp_stage"},
        ("step_num", "step_name"),
    ),
    OldTable(
        "irp_step_run",
        _columns(
            *("id bigint", "step_id bigint", "run_num integer", "status text", "started_ts timestamptz"),
            *("completed_ts timestamptz", "started_by text", "error_message text", "output_data jsonb"),
        ),
        {"status": ENUM_TYPES["step_status_enum"]},
        {"step_id": "irp_step"},
        (),
    ),
    OldTable(
        "irp_configuration",
        _columns(
            *("id bigint", "cycle_id bigint", "configuration_file_name text > file_name", "configuration_data jsonb"),
            *("status text", "file_last_updated_ts timestamptz -", "created_ts timestamptz", "updated_ts timestamptz"),
        ),
        {"status": ENUM_TYPES["configuration_status_enum"]},
        {"cycle_id": "irp_cycle"},
        ("configuration_file_name",),
    ),
    OldTable(
        "irp_batch",
        _columns(
            *("id bigint", "step_id bigint", "configuration_id bigint", "batch_type text", "status text"),
            *("submitted_ts timestamptz", "completed_ts timestamptz", "created_ts timestamptz"),
            "updated_ts timestamptz -",
        ),
        {"status": ENUM_TYPES["batch_status_enum"]},
        {"step_id": "irp_step", "configuration_id": "irp_configuration"},
        ("batch_type",),
    ),
    OldTable(
        "irp_job_configuration",
        _columns(
            *("id bigint", "batch_id bigint", "configuration_id bigint -", "job_configuration_data jsonb"),
            *("skipped boolean", "overridden boolean", "override_reason_txt text > override_reason"),
            *("parent_job_configuration_id bigint -", "skipped_reason_txt text > skipped_reason *"),
            *("override_job_configuration_id bigint - *", "created_ts timestamptz", "updated_ts timestamptz -"),
        ),
        {},
        {"batch_id": "irp_batch"},
        (),
    ),
    OldTable(
        "irp_job",
        _columns(
            *("id bigint", "batch_id bigint", "job_configuration_id bigint", "moodys_workflow_id text -"),
            *("status text", "skipped boolean", "last_error text > error_message *", "parent_job_id bigint"),
            *("submitted_ts timestamptz", "completed_ts timestamptz", "last_tracked_ts timestamptz -"),
            *("created_ts timestamptz", "updated_ts timestamptz -"),
            *("submission_request jsonb - *", "submission_response jsonb - *"),
        ),
        {"status": ENUM_TYPES["job_status_enum"]},
        {"batch_id": "irp_batch", "job_configuration_id": "irp_job_configuration"},
        (),
    ),
    OldTable(
        "irp_batch_recon_log",
        _columns(
            *("id bigint", "batch_id bigint", "recon_ts timestamptz", "recon_result text > status"),
            "recon_summary jsonb > job_counts",
        ),
        {"recon_result": ENUM_TYPES["batch_status_enum"]},
        {"batch_id": "irp_batch"},
        (),
    ),
    OldTable(
        "irp_job_tracking_log",
        _columns(
            *("id bigint", "job_id bigint", "tracked_ts timestamptz > logged_ts", "moodys_workflow_id text -"),
            *("job_status text > status", "tracking_data jsonb -"),
        ),
        {"job_status": ENUM_TYPES["job_status_enum"]},
        {"job_id": "irp_job"},
        (),
    ),
)
"""The tables of the old framework, each after those that it refers to."""

_NEEDED: Final = ("irp_cycle", "irp_stage", "irp_step", "irp_step_run")
_OURS_ONLY: Final = {("irp_step", "last_run_num"), ("irp_cycle", "adopted")}


@dataclass(frozen=True)
class OldSchema:
    """A schema of the old framework: where its tables are, and which columns they have.

    Attributes:
        name: the schema that has the tables now.
        columns: the columns of each table that there is.
    """

    name: str
    columns: Mapping[str, frozenset[str]]

    @property
    def tables(self) -> list[OldTable]:
        """The tables that there are, each after those that it refers to."""
        return [table for table in OLD_TABLES if table.name in self.columns]

    def qualified(self, table: str) -> str:
        """Return the name of a table for a statement."""
        return f"{quote_identifier(self.name)}.{quote_identifier(table)}"

    def rows_of(self, table: OldTable) -> str:
        """Return a subquery with a table's rows: every old column in its type, and ``rest``.

        ``rest`` is a JSON object of what has no place in our table: old columns, and those that the team added. Columns
        that are empty are left out.
        """
        present = self.columns[table.name]
        read = [
            f"o.{quote_identifier(column.name)}::{column.type} AS {column.name}"
            if column.name in present
            else f"NULL::{column.type} AS {column.name}"
            for column in table.columns
        ]
        placed = ", ".join(f"'{column.name}'" for column in table.carried)
        others = f"jsonb_each(to_jsonb(o) - ARRAY[{placed}]) e WHERE e.value <> 'null'"
        rest = f"(SELECT coalesce(jsonb_object_agg(e.key, e.value), '{{}}') FROM {others}) AS rest"  # noqa: S608
        return f"(SELECT {', '.join(read)}, {rest} FROM {self.qualified(table.name)} o)"  # noqa: S608 - names of ours


def is_of_old_framework(schema: str) -> bool:
    """Tell whether a schema has the tables of the old framework, and not ours.

    Raises:
        DatabaseError: the server is away.
    """
    with administrative_connection() as connection:
        return find_old_schema(connection, schema) is not None


def find_old_schema(connection: sa.Connection, schema: str) -> OldSchema | None:
    """Return what a schema has of the old framework; None if it is not such a schema."""
    rows = connection.exec_driver_sql(
        """
        SELECT c.relname::text AS name, a.attname::text AS column
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND c.relname = ANY(%s)
        """,
        (schema, [table.name for table in OLD_TABLES] + [VERSION_TABLE]),
    ).all()
    found = {(row[0], row[1]) for row in rows}
    tables = {name for name, _ in found}
    if VERSION_TABLE in tables or not set(_NEEDED) <= tables or found & _OURS_ONLY:
        return None
    columns = {table: frozenset(column for name, column in found if name == table) for table in tables}
    return OldSchema(schema, columns)


def require_columns(old: OldSchema) -> None:
    """Refuse tables that lack columns of the old framework.

    Raises:
        AdoptionError: names each table and column.
    """
    missing = [
        f"{table.name}.{column.name}"
        for table in old.tables
        for column in table.columns
        if not column.is_newer and column.name not in old.columns[table.name]
    ]
    if missing:
        raise AdoptionError(
            f"The tables in schema {old.name!r} are not as the old framework makes them: there is no column "
            f"{', '.join(missing)}. Nothing was changed"
        )
