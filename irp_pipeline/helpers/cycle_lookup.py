"""The record of a cycle, finding one, and the rules for its name.

:mod:`irp_pipeline.helpers.cycle` makes and changes cycles. It imports jobs and steps, which only need this module.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from irp_pipeline.errors import IrpError
from irp_pipeline.helpers.constants import CycleStatus
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.helpers.record import as_dict, record_or_none
from irp_pipeline.postgres.running import execute_scalar, fetch_all, fetch_one

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


_COLUMNS = "id, cycle_name, status, created_ts, archived_ts"


class CycleError(IrpError):
    """A cycle cannot be made or changed as asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cycle:
    """One complete risk analysis.

    Attributes:
        id: the cycle's id.
        cycle_name: its name.
        status: whether it takes work.
        created_ts: when it was created.
        archived_ts: when it was archived, if it is.
    """

    id: int
    cycle_name: str
    status: CycleStatus
    created_ts: datetime
    archived_ts: datetime | None


def check_cycle_name(cycle_name: object) -> str:
    """Return ``cycle_name`` if a cycle can have it.

    Args:
        cycle_name: 1 to 100 ASCII letters, digits, ``_``, ``-`` and ``.``, without ``..``: valid as a Dagster partition
            key, as a folder and in a URL.

    Raises:
        CycleError: anything else; the message names it.
    """
    if not isinstance(cycle_name, str) or not can_be_cycle_name(cycle_name):
        raise CycleError(
            f"Not a cycle name: {cycle_name!r}. A cycle's name has 1 to 100 letters, digits, '_', '-' or '.', and no "
            "two dots in a row, for example Q1-2024"
        )
    return cycle_name


def can_be_cycle_name(name: str) -> bool:
    """Tell whether a new cycle can have a name. An adopted cycle keeps any other one, but cannot be a partition."""
    return _NAME.fullmatch(name) is not None and ".." not in name and name != "."


def require_open_cycle(cycle_name: str) -> Cycle:
    """Return the ACTIVE cycle of that name.

    Raises:
        CycleError: there is none in this schema; the message lists the open cycles.
    """
    cycle = find_cycle(cycle_name)
    if cycle is not None and cycle.status is CycleStatus.ACTIVE:
        return cycle
    schema = get_current_schema()
    if cycle is not None:
        raise CycleError(
            f"The cycle {cycle_name!r} in schema {schema!r} is archived and takes no more work. To take that back: "
            f"irp cycle reopen {cycle_name}"
        )
    if (other := other_spelling(cycle_name)) is not None:
        raise CycleError(
            f"There is no cycle {cycle_name!r} in schema {schema!r}. There is a cycle {other!r}; names are not "
            "case-sensitive: write it like that"
        )
    open_names = [
        row["cycle_name"]
        for row in fetch_all("SELECT cycle_name FROM irp_cycle WHERE status = 'ACTIVE' ORDER BY created_ts DESC")
    ]
    listed = "the open cycles are " + ", ".join(open_names) if open_names else "no cycle is open"
    raise CycleError(
        f"There is no cycle {cycle_name!r} in schema {schema!r}: {listed}. Nothing was created. To make it: "
        f"irp cycle create {cycle_name}, or launch open_cycle with its name"
    )


def get_active_cycle() -> dict[str, Any] | None:
    """Return the newest ACTIVE cycle, or None: id, cycle_name, status, created_ts, archived_ts."""
    return as_dict(find_active_cycle())


def get_active_cycle_id() -> int | None:
    """Return the id of the newest ACTIVE cycle, or None."""
    cycle = find_active_cycle()
    return cycle.id if cycle else None


def get_cycle_by_name(cycle_name: str) -> dict[str, Any] | None:
    """Return the cycle of that name, or None: id, cycle_name, status, created_ts, archived_ts."""
    return as_dict(find_cycle(cycle_name))


def find_active_cycle() -> Cycle | None:
    """Return the newest ACTIVE cycle, or None."""
    row = fetch_one(
        f"SELECT {_COLUMNS} FROM irp_cycle WHERE status = 'ACTIVE' ORDER BY created_ts DESC, id DESC LIMIT 1"  # noqa: S608
    )
    return record_or_none(Cycle, row)


def find_cycle(cycle_name: str) -> Cycle | None:
    """Return the cycle of that name, or None."""
    row = fetch_one(f"SELECT {_COLUMNS} FROM irp_cycle WHERE cycle_name = %s", (cycle_name,))  # noqa: S608
    return record_or_none(Cycle, row)


def other_spelling(cycle_name: str) -> str | None:
    """Return the name of the cycle that differs from this name only in capitals, or None.

    There is at most one, except in an old database, from when names were case-sensitive.
    """
    other: str | None = execute_scalar(
        """
        SELECT cycle_name FROM irp_cycle
         WHERE lower(cycle_name COLLATE "C") = lower(%s::text COLLATE "C") AND cycle_name <> %s
         ORDER BY shares_name, id LIMIT 1
        """,
        (cycle_name, cycle_name),
    )
    return other


def list_cycle_names() -> list[str]:
    """Return the names of all cycles, including archived ones, the oldest first."""
    return [row["cycle_name"] for row in fetch_all("SELECT cycle_name FROM irp_cycle ORDER BY created_ts, id")]
