"""Stages: the numbered phases of a cycle. Works in the schema of :mod:`irp_pipeline.helpers.db_context`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.record import as_dict, record_of, record_or_none
from irp_pipeline.postgres.errors import FOREIGN_KEY_VIOLATION, DatabaseError
from irp_pipeline.postgres.running import fetch_all, fetch_one, find_or_insert

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = "id, cycle_id, stage_num, stage_name, stage_key, created_ts"


class StageError(IrpError):
    """A stage cannot be made as asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A numbered phase of a cycle.

    Attributes:
        id: the stage's id.
        cycle_id: its cycle.
        stage_num: its number within the cycle.
        stage_name: its name.
        stage_key: identifies the stage, whatever its number; None for a stage of notebooks.
        created_ts: when it was made.
    """

    id: int
    cycle_id: int
    stage_num: int
    stage_name: str
    stage_key: str | None
    created_ts: datetime


def get_or_create_stage(cycle_id: int, stage_num: int, stage_name: str, *, stage_key: str | None = None) -> int:
    """Return the id of a cycle's stage, making the stage if it is missing.

    An existing stage without a key keeps its name, whatever name is given. Safe for any number of callers at once.

    Args:
        cycle_id: the cycle.
        stage_num: number of the stage within the cycle, from 0. Without a key it identifies the stage; with a key it
            only sets the order in which stages are shown.
        stage_name: its name, if it is new.
        stage_key: identifies the stage, whatever its number. A stage with a key gets the given number and name.

    Raises:
        StageError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    try:
        if stage_key is None:
            stage_id: int | None = find_or_insert(
                "SELECT id FROM irp_stage WHERE cycle_id = %s AND stage_num = %s AND stage_key IS NULL",
                (cycle_id, stage_num),
                """
                INSERT INTO irp_stage (cycle_id, stage_num, stage_name) VALUES (%s, %s, %s)
                ON CONFLICT (cycle_id, stage_num) WHERE stage_key IS NULL DO NOTHING RETURNING id
                """,
                (cycle_id, stage_num, stage_name),
            )
        else:
            stage_id = find_or_insert(
                """
                SELECT id FROM irp_stage
                 WHERE cycle_id = %s AND stage_key = %s AND (stage_num, stage_name) = (%s, %s)
                """,
                (cycle_id, stage_key, stage_num, stage_name),
                """
                INSERT INTO irp_stage (cycle_id, stage_key, stage_num, stage_name) VALUES (%s, %s, %s, %s)
                ON CONFLICT (cycle_id, stage_key) WHERE stage_key IS NOT NULL
                DO UPDATE SET stage_num = excluded.stage_num, stage_name = excluded.stage_name RETURNING id
                """,
                (cycle_id, stage_key, stage_num, stage_name),
            )
    except DatabaseError as error:
        if error.sqlstate == FOREIGN_KEY_VIOLATION:
            raise StageError(f"There is no cycle with the id {cycle_id} to put stage {stage_num} into") from error
        raise
    if stage_id is None:
        raise StageError(f"The cycle with the id {cycle_id} was deleted while its stage {stage_num} was being made")
    return stage_id


def get_stage_by_id(stage_id: int) -> dict[str, Any] | None:
    """Return a stage, or None: id, cycle_id, stage_num, stage_name, stage_key, created_ts."""
    row = fetch_one(f"SELECT {_COLUMNS} FROM irp_stage WHERE id = %s", (stage_id,))  # noqa: S608
    return as_dict(record_or_none(Stage, row))


def list_stages_for_cycle(cycle_id: int) -> pd.DataFrame:
    """Return the stages of a cycle in their order, with the columns of :func:`get_stage_by_id`."""
    import pandas as pd

    return pd.DataFrame(
        [as_dict(stage) for stage in stages_of_cycle(cycle_id)], columns=[field.name for field in fields(Stage)]
    )


def stages_of_cycle(cycle_id: int) -> list[Stage]:
    """Return the stages of a cycle in their order."""
    rows = fetch_all(f"SELECT {_COLUMNS} FROM irp_stage WHERE cycle_id = %s ORDER BY stage_num", (cycle_id,))  # noqa: S608
    return [record_of(Stage, row) for row in rows]
