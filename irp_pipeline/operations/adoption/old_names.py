"""The old columns that notebooks go on reading and writing, beside ours.

They stay as real columns: a view cannot have the name of a table. Where our table has the same content under another
name, a trigger keeps the two in step, whichever of them a statement writes: it only changes the row that is being
written, so it cannot call itself. The enum types stay as well, and can be compared with text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import sqlalchemy as sa

from irp_pipeline.helpers.configuration import ADOPTED
from irp_pipeline.operations.adoption.old_tables import ENUM_TYPES, OLD_TABLES
from irp_pipeline.operations.adoption.rows import NO_REASON, execute
from irp_pipeline.postgres.statements import quote_identifier

TRIGGER: Final = "irp_old_names"
"""The name of the trigger on each table."""

_TOUCH: Final = """
    IF TG_OP = 'INSERT' THEN
        NEW.updated_ts := coalesce(NEW.updated_ts, clock_timestamp());
    ELSIF NEW.updated_ts IS NOT DISTINCT FROM OLD.updated_ts THEN
        NEW.updated_ts := clock_timestamp();
    END IF;"""

# What besides the pairs of columns a trigger does, so that statements of the old framework meet our constraints.
_ALSO: Final[Mapping[str, str]] = {
    # Old clients count runs themselves: the counter must not give their numbers again. Ours have counted already.
    "irp_step_run": """
    IF TG_OP = 'INSERT' THEN
        EXECUTE format('UPDATE %I.irp_step SET last_run_num = $1 WHERE id = $2 AND last_run_num < $1', TG_TABLE_SCHEMA)
          USING NEW.run_num, NEW.step_id;
    END IF;""",
    "irp_configuration": f"""
    NEW.data_folder := coalesce(NEW.data_folder, '.');
    NEW.file_hash := coalesce(NEW.file_hash, '{ADOPTED}' || encode(sha256(convert_to(
        coalesce(NEW.configuration_data::text, ''), 'UTF8')), 'hex'));""",
    "irp_batch": _TOUCH,
    "irp_job_configuration": f"""
    IF NEW.overridden AND NEW.override_reason IS NULL THEN
        NEW.override_reason := '{NO_REASON}';
        NEW.override_reason_txt := NEW.override_reason;
    END IF;
    IF NEW.configuration_id IS NULL THEN
        EXECUTE format('SELECT configuration_id FROM %I.irp_batch WHERE id = $1', TG_TABLE_SCHEMA)
           INTO NEW.configuration_id USING NEW.batch_id;
    END IF;{_TOUCH}""",  # noqa: S608 - a constant
    "irp_job": _TOUCH,
    "irp_batch_recon_log": """
    NEW.job_counts := coalesce(NEW.job_counts, '{}');
    NEW.recon_summary := NEW.job_counts;""",
}


def are_among(columns: Mapping[str, Collection[str]]) -> bool:
    """Tell whether old columns are among those of some tables, by the name of the table."""
    return any(column.name in columns.get(table.name, ()) for table in OLD_TABLES for column in table.staying)


def add_columns(connection: sa.Connection, schema: str) -> None:
    """Add the old columns that stay to the tables of a schema; those that are there stay as they are.

    Args:
        connection: with an open transaction.
        schema: a schema at our newest version.
    """
    for table in OLD_TABLES:
        if table.staying:
            columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {column.name} {column.type}" for column in table.staying)
            execute(connection, f"ALTER TABLE {_qualified(schema, table.name)} {columns}")


def add_triggers(connection: sa.Connection, schema: str) -> None:
    """Add the enum types that are missing, their casts, and the triggers that keep the columns in step."""
    for name, labels in ENUM_TYPES.items():
        _keep_type(connection, schema, name, labels)
    for table in OLD_TABLES:
        pairs = [(column.name, column.ours) for column in table.staying if column.ours is not None]
        also = _ALSO.get(table.name, "")
        if not pairs and not also:
            continue
        body = "".join(_in_step(old, ours) for old, ours in pairs) + also
        function = _qualified(schema, f"{TRIGGER}_of_{table.name}")
        execute(
            connection,
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$\n"
            f"BEGIN{body}\n    RETURN NEW;\nEND\n$$",
        )
        execute(
            connection,
            f"CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE INSERT OR UPDATE ON {_qualified(schema, table.name)} "
            f"FOR EACH ROW EXECUTE FUNCTION {function}()",
        )


def _in_step(old: str, ours: str) -> str:
    """Return the statements that keep two columns of a row in step. If a statement writes both, ours counts."""
    return f"""
    IF TG_OP = 'INSERT' THEN
        IF NEW.{old} IS NULL THEN
            NEW.{old} := NEW.{ours};
        ELSE
            NEW.{ours} := NEW.{old};
        END IF;
    ELSIF NEW.{old} IS DISTINCT FROM OLD.{old} AND NEW.{ours} IS NOT DISTINCT FROM OLD.{ours} THEN
        NEW.{ours} := NEW.{old};
    ELSE
        NEW.{old} := NEW.{ours};
    END IF;"""


def _keep_type(connection: sa.Connection, schema: str, name: str, labels: tuple[str, ...]) -> None:
    """Make sure that there is an enum type of the old framework, and that it can be compared with text."""
    kind, listed = _qualified(schema, name), ", ".join(f"'{label}'" for label in labels)
    if connection.exec_driver_sql("SELECT to_regtype(%s)", (kind,)).scalar() is None:
        execute(connection, f"CREATE TYPE {kind} AS ENUM ({listed})")
    let_be_text(connection, kind)


def let_be_text(connection: sa.Connection, kind: str) -> None:
    """Make sure that an enum type can be compared with text.

    Args:
        connection: with an open transaction.
        kind: the type, as it is written in a statement.
    """
    has_cast = connection.exec_driver_sql(
        """
        SELECT EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castsource = %s::regtype AND casttarget = 'text'::regtype)
        """,
        (kind,),
    ).scalar()
    if not has_cast:
        execute(connection, f"CREATE CAST ({kind} AS text) WITH INOUT AS IMPLICIT")


def _qualified(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"
