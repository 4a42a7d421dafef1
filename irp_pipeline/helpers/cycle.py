"""Cycles: one complete risk analysis each, such as ``Q1-2024``.

Several cycles may be ACTIVE at once; the newest is *the* active cycle for callers who do not name one. Deleting a
cycle deletes its stages, steps and runs with it. A cycle cannot be archived or deleted while its steps or jobs are at
work; ``force=True`` ends those first. Names are not case-sensitive: ``Q1-2024`` and ``q1-2024`` cannot both be cycles.
Works in the schema of :mod:`irp_pipeline.helpers.db_context`.
"""

from __future__ import annotations

from dataclasses import dataclass

from irp_pipeline.helpers.constants import CycleStatus
from irp_pipeline.helpers.cycle_lookup import (
    Cycle,
    CycleError,
    check_cycle_name,
    find_active_cycle,
    find_cycle,
    get_active_cycle,
    get_active_cycle_id,
    get_cycle_by_name,
    list_cycle_names,
    other_spelling,
    require_open_cycle,
)
from irp_pipeline.helpers.cycle_progress import (
    CycleOverview,
    PastRun,
    StepProgress,
    get_cycle_progress,
    get_cycle_status,
    get_step_history,
    overview_of_cycles,
    past_runs_of_cycle,
    progress_of_cycle,
)
from irp_pipeline.postgres.errors import UNIQUE_VIOLATION, DatabaseError
from irp_pipeline.postgres.running import (
    execute_command,
    execute_insert,
    fetch_all,
    fetch_one,
    transaction,
)

__all__ = [
    "Cycle",
    "CycleError",
    "CycleOverview",
    "Opened",
    "PastRun",
    "StepProgress",
    "archive_cycle",
    "check_cycle_name",
    "create_cycle",
    "delete_archived_cycles",
    "delete_cycle",
    "find_active_cycle",
    "find_cycle",
    "get_active_cycle",
    "get_active_cycle_id",
    "get_cycle_by_name",
    "get_cycle_progress",
    "get_cycle_status",
    "get_step_history",
    "list_cycle_names",
    "open_cycle",
    "other_spelling",
    "overview_of_cycles",
    "past_runs_of_cycle",
    "progress_of_cycle",
    "refuse_while_at_work",
    "reopen_cycle",
    "replace_active_cycle",
    "require_open_cycle",
]


def create_cycle(cycle_name: str) -> int:
    """Create an ACTIVE cycle and return its id.

    Raises:
        CycleError: not a name for a cycle, or there is already one of that name, perhaps with other capitals.
        DatabaseError: the database refuses or is away.
    """
    check_cycle_name(cycle_name)
    try:
        cycle_id: int = execute_insert(
            "INSERT INTO irp_cycle (cycle_name, status) VALUES (%s, %s) RETURNING id", (cycle_name, CycleStatus.ACTIVE)
        )
    except DatabaseError as error:
        if error.sqlstate == UNIQUE_VIOLATION:
            other = other_spelling(cycle_name) or cycle_name
            hint = "" if other == cycle_name else "; names are not case-sensitive"
            raise CycleError(f"There is a cycle {other!r} already{hint}: use it, or choose another name") from error
        raise
    return cycle_id


@dataclass(frozen=True)
class Opened:
    """What opening a cycle did.

    Attributes:
        cycle_id: the cycle that is open now.
        created: whether it is new.
        archived: name of the previously active cycle that was archived instead, if there was one.
    """

    cycle_id: int
    created: bool
    archived: str | None


def open_cycle(cycle_name: str) -> int:
    """Make a cycle the active one: create it, **and archive the one that was active before**.

    Of several ACTIVE cycles, the newest is archived; :func:`reopen_cycle` undoes that. :func:`create_cycle` archives
    nothing. Safe to repeat: if there is an ACTIVE cycle of that name, nothing changes.

    Args:
        cycle_name: name of the cycle to open.

    Returns:
        Its id; :func:`replace_active_cycle` also says what was archived.

    Raises:
        CycleError: not a name for a cycle; the cycle is archived; or the active one has steps or jobs at work.
        DatabaseError: the database refuses or is away.
    """
    return replace_active_cycle(cycle_name).cycle_id


def replace_active_cycle(cycle_name: str) -> Opened:
    """Open a cycle as :func:`open_cycle` does, with the same errors, and say what was done."""
    check_cycle_name(cycle_name)
    with transaction():
        # One opening at a time; readers and step runs are not blocked.
        execute_command("LOCK TABLE irp_cycle IN SHARE ROW EXCLUSIVE MODE")
        existing = find_cycle(cycle_name)
        if existing is not None:
            if existing.status is not CycleStatus.ACTIVE:
                raise CycleError(
                    f"The cycle {cycle_name!r} is archived and cannot be opened again: choose another name, or take "
                    f"the archiving back with: irp cycle reopen {cycle_name}"
                )
            return Opened(existing.id, created=False, archived=None)
        other = other_spelling(cycle_name)
        if other is not None:
            raise CycleError(
                f"There is a cycle {other!r} already; names are not case-sensitive: use it, or choose another name"
            )
        previous = find_active_cycle()
        if previous is not None:
            refuse_while_at_work(previous)
            archive_cycle(previous.id)
        return Opened(create_cycle(cycle_name), created=True, archived=previous.cycle_name if previous else None)


def refuse_while_at_work(cycle: Cycle) -> None:
    """Raise if a step run of the cycle is ACTIVE, including those that notebooks record, or a job has not ended.

    Raises:
        CycleError: names the steps and jobs.
    """
    from irp_pipeline.helpers.ending import nothing_at_work  # it imports jobs, which import cycles

    recorded = fetch_one(
        """
        SELECT st.step_name, r.run_num
          FROM irp_stage sg
          JOIN irp_step st ON st.stage_id = sg.id
          JOIN irp_step_run r ON r.step_id = st.id AND r.status = 'ACTIVE' AND NOT r.tracked
         WHERE sg.cycle_id = %s
         LIMIT 1
        """,
        (cycle.id,),
    )
    if recorded:
        raise CycleError(
            f"The cycle {cycle.cycle_name!r} cannot be archived while it is at work: run "
            f"{recorded['run_num']} of step {recorded['step_name']!r} is ACTIVE. Wait for it, or record how it ended: "
            "update_step_run"
        )
    with nothing_at_work([cycle.id], "archived", force=False):
        pass


def archive_cycle(cycle_id: int, *, force: bool = False) -> bool:
    """Archive a cycle: its records stay, and it takes no more work.

    Args:
        cycle_id: the cycle.
        force: first end its steps and jobs that are at work, and wait until they have ended.

    Returns:
        Whether there is such a cycle; archiving an archived one changes nothing.

    Raises:
        CycleError: its steps or jobs are at work, and ``force`` is not set; the message names them.
        EngineError: with ``force``, a risk engine cannot be reached to end its jobs.
    """
    from irp_pipeline.helpers.ending import nothing_at_work  # it imports jobs, which import cycles

    with nothing_at_work([cycle_id], "archived", force=force):
        return (
            execute_command(
                """
                UPDATE irp_cycle
                   SET status = %s, archived_ts = coalesce(archived_ts, clock_timestamp())
                 WHERE id = %s
                """,
                (CycleStatus.ARCHIVED, cycle_id),
            )
            > 0
        )


def reopen_cycle(cycle_id: int) -> bool:
    """Reopen an archived cycle: it takes work again.

    Returns:
        Whether there is such a cycle; reopening an ACTIVE one changes nothing.
    """
    return execute_command("UPDATE irp_cycle SET status = %s WHERE id = %s", (CycleStatus.ACTIVE, cycle_id)) > 0


def delete_cycle(cycle_id: int, *, force: bool = False) -> bool:
    """Delete a cycle with all its stages, steps, runs, batches and jobs.

    Args:
        cycle_id: the cycle.
        force: first end its steps and jobs that are at work, and wait until they have ended.

    Returns:
        Whether there was one.

    Raises:
        CycleError, EngineError: as :func:`archive_cycle`.
    """
    from irp_pipeline.helpers.ending import nothing_at_work  # it imports jobs, which import cycles

    with nothing_at_work([cycle_id], "deleted", force=force):
        return execute_command("DELETE FROM irp_cycle WHERE id = %s", (cycle_id,)) > 0


def delete_archived_cycles(*, force: bool = False) -> int:
    """Delete every ARCHIVED cycle with everything in it; return how many there were.

    Args:
        force: first end their steps and jobs that are at work, and wait until they have ended.

    Raises:
        CycleError, EngineError: as :func:`archive_cycle`. Nothing is deleted then.
    """
    from irp_pipeline.helpers.ending import nothing_at_work  # it imports jobs, which import cycles

    archived = [row["id"] for row in fetch_all("SELECT id FROM irp_cycle WHERE status = %s", (CycleStatus.ARCHIVED,))]
    with nothing_at_work(archived, "deleted", force=force):
        return execute_command(
            "DELETE FROM irp_cycle WHERE id = ANY(%s) AND status = %s", (archived, CycleStatus.ARCHIVED)
        )
