"""The progress of the cycles of a schema: an overview, the status of each step of a cycle, and its past runs.

Each as a DataFrame, for notebooks, and as records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.helpers.constants import CycleStatus, StepStatus
from irp_pipeline.helpers.record import INTERNAL, record_of
from irp_pipeline.postgres.running import execute_query, fetch_all

if TYPE_CHECKING:
    import pandas as pd

_CYCLES: Final = """
    SELECT c.id, c.cycle_name, c.status, c.created_ts, c.archived_ts,
           (SELECT count(*) FROM irp_stage sg WHERE sg.cycle_id = c.id) AS stages,
           (SELECT count(*) FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id
             WHERE sg.cycle_id = c.id) AS steps,
           (SELECT count(*) FROM irp_stage sg JOIN irp_step st ON st.stage_id = sg.id
              JOIN irp_step_run r ON r.step_id = st.id AND r.status = 'ACTIVE'
             WHERE sg.cycle_id = c.id) AS active_step_runs
      FROM irp_cycle c
     ORDER BY c.created_ts DESC, c.id DESC
"""
_PROGRESS: Final = """
    SELECT sg.stage_num, sg.stage_name, st.step_num, st.step_name,
           newest.status AS last_status, newest.run_num AS last_run, done.completed_ts AS last_completed,
           coalesce(newest.status = 'FAILED' AND starts_with(newest.error_message, %s), false) AS was_cancelled
      FROM irp_cycle c
      JOIN irp_stage sg ON sg.cycle_id = c.id
      JOIN irp_step st ON st.stage_id = sg.id
      LEFT JOIN LATERAL (
            SELECT status, run_num, error_message FROM irp_step_run
             WHERE step_id = st.id ORDER BY run_num DESC LIMIT 1) newest ON true
      LEFT JOIN LATERAL (
            SELECT completed_ts FROM irp_step_run
             WHERE step_id = st.id AND status = 'COMPLETED' ORDER BY run_num DESC LIMIT 1) done ON true
     WHERE c.cycle_name = %s
     ORDER BY sg.stage_num, st.step_num
"""
CANCELLED: Final = "cancelled"
"""How the message of a cancelled run begins."""

_HISTORY: Final = """
    SELECT sg.stage_num, sg.stage_name, st.step_num, st.step_name, r.run_num, r.status, r.started_ts,
           r.completed_ts, r.started_by, r.error_message, r.output_data, r.work_run_num
      FROM irp_cycle c
      JOIN irp_stage sg ON sg.cycle_id = c.id
      JOIN irp_step st ON st.stage_id = sg.id
      JOIN irp_step_run r ON r.step_id = st.id
     WHERE c.cycle_name = %s
       AND (%s::integer IS NULL OR sg.stage_num = %s)
       AND (%s::integer IS NULL OR st.step_num = %s)
     ORDER BY r.started_ts DESC, r.id DESC
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleOverview:
    """A cycle, with the number of its stages, its steps and its step runs at work."""

    id: int
    cycle_name: str
    status: CycleStatus
    created_ts: datetime
    archived_ts: datetime | None
    stages: int
    steps: int
    active_step_runs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepProgress:
    """The progress of a step of a cycle: status and number of its newest run, None if it never ran."""

    stage_num: int
    stage_name: str
    step_num: int
    step_name: str
    last_status: StepStatus | None
    last_run: int | None
    last_completed: datetime | None
    was_cancelled: bool = field(metadata=INTERNAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class PastRun:
    """A run of a step in a cycle; ``work_run_num`` says which run did the work of a skipped one."""

    stage_num: int
    stage_name: str
    step_num: int
    step_name: str
    run_num: int
    status: StepStatus
    started_ts: datetime
    completed_ts: datetime | None
    started_by: str | None
    error_message: str | None
    output_data: Any
    work_run_num: int | None


def overview_of_cycles() -> list[CycleOverview]:
    """Return all cycles, the newest first."""
    return [record_of(CycleOverview, row) for row in fetch_all(_CYCLES)]


def progress_of_cycle(cycle_name: str) -> list[StepProgress]:
    """Return the progress of each step of a cycle, in the order of stages and steps."""
    return [record_of(StepProgress, row) for row in fetch_all(_PROGRESS, (CANCELLED, cycle_name))]


def past_runs_of_cycle(cycle_name: str, stage_num: int | None = None, step_num: int | None = None) -> list[PastRun]:
    """Return the step runs of a cycle, the newest first; as :func:`get_step_history`."""
    values = (cycle_name, stage_num, stage_num, step_num, step_num)
    return [record_of(PastRun, row) for row in fetch_all(_HISTORY, values)]


def get_cycle_status() -> pd.DataFrame:
    """Return all cycles, the newest first.

    Returns:
        One row per cycle: id, cycle_name, status, created_ts, archived_ts, stages and steps (how many it has),
        active_step_runs (how many are at work).
    """
    return execute_query(_CYCLES)


def get_cycle_progress(cycle_name: str) -> pd.DataFrame:
    """Return the progress of each step of a cycle, in the order of stages and steps.

    Args:
        cycle_name: name of the cycle; an unknown one gives no rows.

    Returns:
        One row per step: stage_num, stage_name, step_num, step_name, last_status (of the newest run; None if it never
        ran), last_run (number of the newest run), last_completed (when a run last completed).
    """
    return execute_query(_PROGRESS, (CANCELLED, cycle_name)).drop(columns="was_cancelled")


def get_step_history(cycle_name: str, stage_num: int | None = None, step_num: int | None = None) -> pd.DataFrame:
    """Return the step runs of a cycle, the newest first.

    Args:
        cycle_name: name of the cycle; an unknown one gives no rows.
        stage_num: only this stage.
        step_num: only steps of this number.

    Returns:
        One row per run: stage_num, stage_name, step_num, step_name, run_num, status, started_ts, completed_ts,
        started_by, error_message, output_data, work_run_num (for a skipped run, the run that did the work).
    """
    return execute_query(_HISTORY, (cycle_name, stage_num, stage_num, step_num, step_num))
