"""What keeps old rows from being adopted, row by row; and whether every row and every value has arrived."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from irp_pipeline.operations.adoption.old_tables import AdoptionError, OldSchema, OldTable
from irp_pipeline.operations.adoption.rows import COPYING, execute
from irp_pipeline.postgres.statements import quote_identifier

_SHOWN: Final = 50
_NUMBERS: Final = {
    "irp_stage": ("stage_num", ("cycle_id", "stage_num")),
    "irp_step": ("step_num", ("stage_id", "step_num")),
}


def refuse_what_has_no_repair(connection: sa.Connection, old: OldSchema) -> None:
    """Refuse rows that our tables would refuse, and that no rule can mend.

    Raises:
        AdoptionError: lists them, each with its table and id.
    """
    problems = [problem for table in old.tables for problem in _problems(connection, old, table)]
    if problems:
        more = len(problems) - _SHOWN
        listed = problems[:_SHOWN] + ([f"and {more} more rows"] if more > 0 else [])
        raise AdoptionError(
            f"The schema {old.name!r} cannot be adopted yet: {len(problems)} of its rows have no repair. Nothing was "
            "changed. Mend these rows, or delete them, and adopt again:\n" + "\n".join(f"  {line}" for line in listed)
        )


def _problems(connection: sa.Connection, old: OldSchema, table: OldTable) -> Iterator[str]:
    for condition, what in _conditions(old, table):
        rows: Any = execute(
            connection,
            f"SELECT o.id, {what} FROM {old.rows_of(table)} o WHERE {condition} ORDER BY o.id",  # noqa: S608
        )
        for row_id, described in rows:
            yield f"{table.name} {row_id}: {described}"


def _conditions(old: OldSchema, table: OldTable) -> Iterator[tuple[str, str]]:
    """Yield conditions for rows that cannot be adopted, each with SQL that says why."""
    yield "o.id IS NULL OR o.id < 1", "'it has no id above 0'"
    yield _again(old, table, ("id",)), "'another row has the same id'"
    for column in table.filled:
        empty = f"o.{column} IS NULL" + (" OR o.cycle_name = ''" if column == "cycle_name" else "")
        yield empty, f"'{column} is empty'"
    if table.name == "irp_cycle":
        yield _again(old, table, ("cycle_name",)), "format('another cycle has the name %s, too', o.cycle_name)"
    for column, statuses in table.statuses.items():
        known = ", ".join(f"'{status}'" for status in statuses)
        yield f"o.{column} NOT IN ({known})", f"format('{column} is %s, which is no status', o.{column})"
    for column, parent in table.parents.items():
        if parent not in old.columns:
            continue
        exists = f"EXISTS (SELECT FROM {old.qualified(parent)} p WHERE p.id = o.{column})"
        yield (
            f"o.{column} IS NULL OR NOT {exists}",
            f"format('{column} is %s, and there is no such row in {parent}', coalesce(o.{column}::text, 'empty'))",
        )
    if table.name in _NUMBERS:
        number, unique = _NUMBERS[table.name]
        yield f"o.{number} < 0", f"format('{number} is %s, which is below 0', o.{number})"
        yield (
            _again(old, table, unique),
            f"format('another row has the {number} %s for the same {unique[0]}', o.{number})",
        )


def _again(old: OldSchema, table: OldTable, columns: tuple[str, ...]) -> str:
    """Return a condition for rows that have the same values as another row, which the old table may not refuse."""
    named = ", ".join(columns)
    of_row = ", ".join(f"o.{column}" for column in columns)
    return (
        f"({of_row}) IN (SELECT {named} FROM {old.qualified(table.name)} "  # noqa: S608
        f"GROUP BY {named} HAVING count(*) > 1)"
    )


def refuse_if_not_all_arrived(connection: sa.Connection, old: OldSchema, schema: str) -> None:
    """Compare our rows with the old ones: by id, and each value that was not repaired.

    Raises:
        AdoptionError: a row is missing, or differs. That is a defect of this package, and nothing is changed.
    """
    for table in old.tables:
        ours = f"{quote_identifier(schema)}.{quote_identifier(table.name)}"
        changing = COPYING[table.name].values
        fixed = [(column.name, str(column.ours)) for column in table.carried if column.ours not in changing]
        fixed += [(column.name, column.name) for column in table.staying if column.ours is None]
        mended = [(column.name, str(column.ours)) for column in table.carried if column.ours in changing]
        differing = execute(
            connection,
            f"""
            SELECT count(*) FROM {old.rows_of(table)} o FULL JOIN {ours} n ON n.id = o.id
             WHERE o.id IS NULL OR n.id IS NULL OR n.adopted IS NULL OR {_differ(fixed)}
                OR NOT n.adopted ? 'repaired' AND {_differ(mended)}
            """,  # noqa: S608
        ).scalar()
        if differing:
            raise AdoptionError(
                f"{differing} rows of {table.name} did not arrive as they were. This is a defect of irp-pipeline: "
                "please report it. Nothing was changed"
            )


def _differ(pairs: list[tuple[str, str]]) -> str:
    """Return a condition: one of the old columns has not the same value as ours."""
    if not pairs:
        return "false"
    before, after = ", ".join(f"o.{old}" for old, _ in pairs), ", ".join(f"n.{ours}" for _, ours in pairs)
    return f"ROW({before}) IS DISTINCT FROM ROW({after})"
