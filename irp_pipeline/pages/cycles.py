"""What the pages show of cycles: the list of them, and the steps of one.

Each statement finds its rows by an index, and returns no more than a page shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from irp_pipeline.helpers.constants import CycleStatus, StepStatus
from irp_pipeline.helpers.cycle_progress import CANCELLED
from irp_pipeline.helpers.record import record_of
from irp_pipeline.postgres.running import fetch_all

_ERROR_CHARACTERS: Final = 4000
_AFTER_ALL_NAMES: Final = "\x7f"
"""Comes after each character that the name of a cycle can have."""

_CYCLES: Final = """
    SELECT c.*, of_steps.*
      FROM (SELECT id, cycle_name, status, created_ts, archived_ts
              FROM irp_cycle
             WHERE (%s::text IS NULL OR status = %s)
               AND (%s::text IS NULL OR lower(cycle_name COLLATE "C") >= lower(%s::text COLLATE "C")
                    AND lower(cycle_name COLLATE "C") < lower(%s::text COLLATE "C"))
               AND (%s::bigint IS NULL
                    OR (created_ts, id) < (SELECT created_ts, id FROM irp_cycle WHERE id = %s))
             ORDER BY created_ts DESC, id DESC LIMIT %s) c,
           LATERAL (
            SELECT count(*) AS steps,
                   count(*) FILTER (WHERE newest.status IN ('COMPLETED', 'SKIPPED')) AS done,
                   count(*) FILTER (WHERE newest.status = 'FAILED') AS failed,
                   count(*) FILTER (WHERE newest.status = 'ACTIVE') AS at_work
              FROM irp_stage sg
              JOIN irp_step st ON st.stage_id = sg.id
              LEFT JOIN LATERAL (SELECT status FROM irp_step_run
                                  WHERE step_id = st.id ORDER BY run_num DESC LIMIT 1) newest ON true
             WHERE sg.cycle_id = c.id) of_steps
     ORDER BY c.created_ts DESC, c.id DESC
"""
_STEPS: Final = """
    SELECT sg.stage_num, sg.stage_name, st.step_num, st.step_name, newest.*,
           coalesce(newest.status = 'FAILED' AND starts_with(newest.error_message, %s), false) AS was_cancelled
      FROM irp_stage sg
      JOIN irp_step st ON st.stage_id = sg.id
      LEFT JOIN LATERAL (
            SELECT run_num, status, started_ts, completed_ts, started_by, dagster_run_id, reason,
                   left(error_message, %s) AS error_message
              FROM irp_step_run WHERE step_id = st.id ORDER BY run_num DESC LIMIT 1) newest ON true
     WHERE sg.cycle_id = %s
     ORDER BY sg.stage_num, st.step_num
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedCycle:
    """A cycle in the list, with how many of its steps are done, failed and at work."""

    id: int
    cycle_name: str
    status: CycleStatus
    created_ts: datetime
    archived_ts: datetime | None
    steps: int
    done: int
    failed: int
    at_work: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownStep:
    """A step of a cycle, with its newest run; None where it never ran."""

    stage_num: int
    stage_name: str
    step_num: int
    step_name: str
    run_num: int | None
    status: StepStatus | None
    started_ts: datetime | None
    completed_ts: datetime | None
    started_by: str | None
    dagster_run_id: str | None
    reason: str | None
    error_message: str | None
    was_cancelled: bool


def newest_cycles(limit: int, *, status: str = "", name: str = "", after: int | None = None) -> list[ListedCycle]:
    """Return cycles, the newest first.

    Args:
        limit: how many at most.
        status: only those with this status; empty means all.
        name: only those whose names begin like this, whatever the capitals; empty means all.
        after: only those that are older than the cycle with this id.
    """
    begin = name or None
    end = f"{name}{_AFTER_ALL_NAMES}"
    values = (status or None, status, begin, begin, end, after, after, limit)
    return [record_of(ListedCycle, row) for row in fetch_all(_CYCLES, values)]


def steps_of_cycle(cycle_id: int) -> list[ShownStep]:
    """Return the steps of a cycle with their newest runs, in the order of stages and steps."""
    return [record_of(ShownStep, row) for row in fetch_all(_STEPS, (CANCELLED, _ERROR_CHARACTERS, cycle_id))]
