"""What each old row becomes in our tables, and the repairs of what our tables would refuse.

Every row keeps its id. Its column ``adopted`` keeps, as a JSON object, what has no place in our table, and under
``repaired`` the original value of each column that a repair changed, by the name of the repair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from irp_pipeline.helpers.configuration import ADOPTED
from irp_pipeline.operations.adoption.old_tables import OLD_TABLES, OldSchema, OldTable
from irp_pipeline.operations.records import set_next_values
from irp_pipeline.postgres.statements import quote_identifier

NO_REASON: Final = "(no reason was recorded)"
"""The reason of an override that has none: our table wants one."""

_CYCLE_NAME: Final = (
    "o.cycle_name ~ '^[A-Za-z0-9_.-]{1,100}$' AND o.cycle_name <> '.' AND position('..' IN o.cycle_name) = 0"
)
_UNDER_WAY: Final = "coalesce(o.status IN ('INITIATED', 'ACTIVE'), false)"
_RUN_NUM: Final = "greatest(coalesce(o.run_num, 1), 1)"
_HAS_DATA: Final = "o.configuration_data IS NOT NULL"
_LAST_SEEN: Final = """
    (SELECT max(coalesce(r.completed_ts, r.started_ts))
       FROM {irp_stage} sg JOIN {irp_step} st ON st.stage_id = sg.id JOIN {irp_step_run} r ON r.step_id = st.id
      WHERE sg.cycle_id = o.id)"""


@dataclass(frozen=True)
class Repair:
    """What is done about an old value that our table would refuse.

    Attributes:
        name: its name in reports and in ``adopted``.
        column: the old column whose value is kept.
        when: for which rows, as SQL over the old row ``o``.
        meaning: what is done, for people.
    """

    name: str
    column: str
    when: str
    meaning: str


@dataclass(frozen=True)
class Copying:
    """How the rows of a table are copied.

    Attributes:
        values: our columns, as SQL over the old row ``o``. All other columns keep their value.
        repairs: what is mended.
        computed: further columns of ``o``, level by level, as a window function needs them.
    """

    values: Mapping[str, str]
    repairs: tuple[Repair, ...] = ()
    computed: tuple[str, ...] = field(default=())


def _missing_time(column: str = "created_ts") -> Repair:
    return Repair(
        f"missing_{column}",
        column,
        f"o.{column} IS NULL",
        "has the nearest time that is known, or that of the adoption",
    )


def _missing_status(column: str, meaning: str) -> Repair:
    return Repair(f"missing_{column}", column, f"o.{column} IS NULL", meaning)


COPYING: Final[Mapping[str, Copying]] = {
    "irp_cycle": Copying(
        {
            "status": "coalesce(o.status, CASE WHEN o.archived_ts IS NULL THEN 'ACTIVE' ELSE 'ARCHIVED' END)",
            "created_ts": "coalesce(o.created_ts, o.archived_ts, now())",
            "archived_ts": (
                "CASE WHEN o.status = 'ARCHIVED' OR o.status IS NULL AND o.archived_ts IS NOT NULL "
                f"THEN coalesce(o.archived_ts, {_LAST_SEEN}, o.created_ts, now()) END"
            ),
            "shares_name": "o.place > 1",
        },
        (
            _missing_status("status", "is ARCHIVED if it has the time of that, else ACTIVE"),
            _missing_time(),
            Repair(
                "archived_without_time",
                "archived_ts",
                "o.status = 'ARCHIVED' AND o.archived_ts IS NULL",
                "has the time of its last step run",
            ),
            Repair(
                "archiving_time_of_open_cycle",
                "archived_ts",
                "o.status = 'ACTIVE' AND o.archived_ts IS NOT NULL",
                "stays ACTIVE, without that time",
            ),
            Repair(
                "unusual_name", "cycle_name", f"NOT ({_CYCLE_NAME})", "keeps its name, which a new cycle cannot have"
            ),
            Repair(
                "name_in_other_capitals",
                "cycle_name",
                "o.place > 1",
                "keeps its name beside that of a cycle that differs in capitals only",
            ),
        ),
        (
            (
                'row_number() OVER (PARTITION BY lower(o.cycle_name COLLATE "C") '
                "ORDER BY o.status, o.created_ts DESC, o.id DESC) AS place"
            ),
        ),
    ),
    "irp_stage": Copying({"created_ts": "coalesce(o.created_ts, now())"}, (_missing_time(),)),
    "irp_step": Copying({"created_ts": "coalesce(o.created_ts, now())"}, (_missing_time(),)),
    "irp_step_run": Copying(
        {
            "run_num": "o.number",
            "status": "coalesce(o.status, CASE WHEN o.completed_ts IS NULL THEN 'FAILED' ELSE 'COMPLETED' END)",
            "started_ts": "coalesce(o.started_ts, o.completed_ts, now())",
        },
        (
            Repair(
                "doubled_run_number",
                "run_num",
                "o.run_num IS DISTINCT FROM o.number",
                "has the next number that is free; the order of the runs stays",
            ),
            _missing_status("status", "is COMPLETED if it has the time of that, else FAILED"),
            _missing_time("started_ts"),
        ),
        (
            f"row_number() OVER (PARTITION BY o.step_id ORDER BY {_RUN_NUM}, o.id)::integer AS place",
            # The smallest numbers that rise, and are not below the recorded ones.
            f"o.place + max({_RUN_NUM} - o.place) OVER (PARTITION BY o.step_id ORDER BY o.place) AS number",
        ),
    ),
    "irp_configuration": Copying(
        {
            "file_hash": (
                f"'{ADOPTED}' || encode(sha256(convert_to(coalesce(o.configuration_data::text, ''), 'UTF8')), 'hex')"
            ),
            "data_folder": (
                "CASE WHEN o.configuration_file_name LIKE '/%' "
                "THEN coalesce(nullif(regexp_replace(o.configuration_file_name, '/[^/]*$', ''), ''), '/') ELSE '.' END"
            ),
            "status": f"CASE WHEN o.status IS NULL OR o.status IN ('VALID', 'ACTIVE') AND NOT {_HAS_DATA} THEN 'NEW' "
            "WHEN o.status = 'ACTIVE' AND o.place > 1 THEN 'VALID' ELSE o.status END",
            "created_ts": "coalesce(o.created_ts, o.updated_ts, now())",
            "updated_ts": "coalesce(o.updated_ts, o.created_ts, now())",
        },
        (
            _missing_status("status", "is NEW"),
            Repair(
                "configuration_without_data",
                "status",
                f"o.status IN ('VALID', 'ACTIVE') AND NOT {_HAS_DATA}",
                "is NEW",
            ),
            Repair(
                "several_active_configurations",
                "status",
                f"o.status = 'ACTIVE' AND {_HAS_DATA} AND o.place > 1",
                "is VALID; the newest one of the cycle stays ACTIVE",
            ),
            _missing_time("created_ts"),
            _missing_time("updated_ts"),
        ),
        (
            (
                f"row_number() OVER (PARTITION BY o.cycle_id, coalesce(o.status = 'ACTIVE', false) AND {_HAS_DATA} "
                "ORDER BY o.id DESC) AS place"
            ),
        ),
    ),
    "irp_batch": Copying(
        {
            "status": f"CASE WHEN o.status IS NULL THEN 'ERROR' WHEN {_UNDER_WAY} AND o.place > 1 THEN 'CANCELLED' "
            "ELSE o.status END",
            "created_ts": "coalesce(o.created_ts, o.submitted_ts, now())",
        },
        (
            _missing_status("status", "is ERROR"),
            Repair(
                "several_batches_under_way",
                "status",
                f"{_UNDER_WAY} AND o.place > 1",
                "is CANCELLED; the newest one of its configuration and type stays as it is",
            ),
            _missing_time(),
        ),
        (
            (
                f"row_number() OVER (PARTITION BY o.configuration_id, o.batch_type, {_UNDER_WAY} "
                "ORDER BY o.id DESC) AS place"
            ),
        ),
    ),
    "irp_job_configuration": Copying(
        {
            "job_configuration_data": "coalesce(o.job_configuration_data, '{}')",
            "skipped": "coalesce(o.skipped, false)",
            "overridden": "coalesce(o.overridden, false)",
            "override_reason": f"CASE WHEN o.overridden THEN coalesce(o.override_reason_txt, '{NO_REASON}') "
            "ELSE o.override_reason_txt END",
            "created_ts": "coalesce(o.created_ts, now())",
        },
        (
            Repair("no_parameters", "job_configuration_data", "o.job_configuration_data IS NULL", "has no parameters"),
            Repair("not_said_whether_skipped", "skipped", "o.skipped IS NULL", "is not skipped"),
            Repair("not_said_whether_overridden", "overridden", "o.overridden IS NULL", "is not overridden"),
            Repair(
                "override_without_reason",
                "override_reason_txt",
                "o.overridden AND o.override_reason_txt IS NULL",
                f"has the reason {NO_REASON}",
            ),
            _missing_time(),
        ),
    ),
    "irp_job": Copying(
        {
            "status": "coalesce(o.status, 'ERROR')",
            "skipped": "coalesce(o.skipped, false)",
            # A job replaces an earlier one. Anything else could be a circle.
            "parent_job_id": "(SELECT p.id FROM {irp_job} p WHERE p.id = o.parent_job_id AND p.id < o.id)",
            "created_ts": "coalesce(o.created_ts, o.submitted_ts, now())",
        },
        (
            _missing_status("status", "is ERROR"),
            Repair("not_said_whether_skipped", "skipped", "o.skipped IS NULL", "is not skipped"),
            Repair(
                "no_such_earlier_job",
                "parent_job_id",
                "o.parent_job_id IS NOT NULL "
                "AND NOT EXISTS (SELECT FROM {irp_job} p WHERE p.id = o.parent_job_id AND p.id < o.id)",
                "replaces no job",
            ),
            _missing_time(),
        ),
    ),
    "irp_batch_recon_log": Copying(
        {
            "status": "coalesce(o.recon_result, 'ERROR')",
            "job_counts": "coalesce(o.recon_summary, '{}')",
            "recon_ts": "coalesce(o.recon_ts, now())",
        },
        (
            _missing_status("recon_result", "is ERROR"),
            Repair("no_summary", "recon_summary", "o.recon_summary IS NULL", "has an empty summary"),
            _missing_time("recon_ts"),
        ),
    ),
    "irp_job_tracking_log": Copying(
        {"status": "coalesce(o.job_status, 'ERROR')", "logged_ts": "coalesce(o.tracked_ts, now())"},
        (_missing_status("job_status", "is ERROR"), _missing_time("tracked_ts")),
    ),
}
"""How the rows of each old table are copied."""


def all_repairs() -> Iterator[tuple[str, Repair]]:
    """Yield every repair, with the table for which it is."""
    for table in OLD_TABLES:
        for repair in COPYING[table.name].repairs:
            yield table.name, repair


def copy_rows(connection: sa.Connection, old: OldSchema, schema: str) -> dict[str, int]:
    """Copy all rows into the empty tables of a schema that also have the old columns that stay.

    Args:
        connection: with the open transaction of the adoption.
        old: the old tables.
        schema: the schema with ours.

    Returns:
        How many rows each table had.
    """
    counts = {}
    for table in old.tables:
        counts[table.name] = execute(connection, _insert(old, table, schema)).rowcount
        set_next_values(connection, schema, table.name, {"id": _next_id(connection, old, table.name)})
    path = quote_identifier(schema)
    execute(
        connection,
        f"""
        UPDATE {path}.irp_step s SET last_run_num = r.newest
          FROM (SELECT step_id, max(run_num) AS newest FROM {path}.irp_step_run GROUP BY step_id) r
         WHERE r.step_id = s.id
        """,  # noqa: S608 - quoted
    )
    return counts


def _insert(old: OldSchema, table: OldTable, schema: str) -> str:
    copying = COPYING[table.name]
    values = {column.ours: f"o.{column.name}" for column in table.carried if column.ours is not None}
    values |= copying.values
    # What is kept in step begins in step.
    values |= {column.name: values[column.ours] if column.ours else f"o.{column.name}" for column in table.staying}
    values["adopted"] = _adopted(copying.repairs)
    rows = old.rows_of(table)
    for computed in copying.computed:
        rows = f"(SELECT o.*, {computed} FROM {rows} o)"  # noqa: S608 - SQL of ours
    named = {name: old.qualified(name) for name in old.columns}
    columns, expressions = ", ".join(values), ", ".join(map(str, values.values()))
    for name, place in named.items():
        expressions = expressions.replace(f"{{{name}}}", place)
    target = f"{quote_identifier(schema)}.{quote_identifier(table.name)}"
    return f"INSERT INTO {target} ({columns}) SELECT {expressions} FROM {rows} o ORDER BY o.id"  # noqa: S608


def _adopted(repairs: tuple[Repair, ...]) -> str:
    """Return SQL for the column ``adopted`` of a row."""
    if not repairs:
        return "o.rest"
    mended = " || ".join(
        f"CASE WHEN {repair.when} THEN "
        f"jsonb_build_object('{repair.name}', jsonb_build_object('{repair.column}', o.{repair.column})) "
        "ELSE '{}' END"
        for repair in repairs
    )
    return (
        f"o.rest || CASE WHEN {' OR '.join(f'coalesce({repair.when}, false)' for repair in repairs)} "
        f"THEN jsonb_build_object('repaired', {mended}) ELSE '{{}}' END"
    )


def _next_id(connection: sa.Connection, old: OldSchema, table: str) -> int:
    """Return the id that follows the highest that the old table has or has given."""
    name = old.qualified(table)
    highest = int(execute(connection, f"SELECT coalesce(max(id), 0) FROM {name}").scalar() or 0)  # noqa: S608
    sequence = connection.exec_driver_sql("SELECT pg_catalog.pg_get_serial_sequence(%s, 'id')", (name,)).scalar()
    if sequence is None:
        return highest + 1
    following = execute(connection, f"SELECT last_value + is_called::integer FROM {sequence}").scalar()  # noqa: S608
    return max(highest + 1, int(following or 1))


def execute(connection: sa.Connection, statement: str) -> sa.CursorResult[Any]:
    """Execute a statement without parameters, in which ``%`` is itself."""
    return connection.exec_driver_sql(statement.replace("%", "%%"))
