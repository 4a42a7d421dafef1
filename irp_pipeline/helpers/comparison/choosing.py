"""Choosing: which batch of a cycle is compared, and which cycle is the one before another.

:mod:`irp_pipeline.helpers.cycle_before` has the rule for the cycle before.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.helpers.comparison.errors import ComparisonError
from irp_pipeline.helpers.cycle_before import cycle_before as before_of
from irp_pipeline.helpers.cycle_before import stated_date
from irp_pipeline.helpers.cycle_lookup import Cycle, find_cycle
from irp_pipeline.helpers.db_context import get_current_schema
from irp_pipeline.postgres.running import fetch_all, fetch_one

_NEIGHBOURS: Final = 500
"""How many cycles before and after a cycle, by age, are looked at."""

_BATCH = """
    SELECT b.id AS batch_id, f.configuration_data #>> '{metadata,exposure_date}' AS exposure_date
      FROM irp_configuration f JOIN irp_batch b ON b.configuration_id = f.id
"""
_WITH_FIGURES = "EXISTS (SELECT FROM irp_analysis_result r WHERE r.batch_id = b.id)"
_NEWEST_FIRST = "ORDER BY b.batch_type = 'analysis' DESC, f.status = 'ACTIVE' DESC, b.id DESC LIMIT 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A batch with figures.

    Attributes:
        cycle_id: its cycle.
        cycle_name: the name of that.
        batch_id: the batch.
        exposure_date: the day whose exposure was analysed, if the workbook says it.
    """

    cycle_id: int
    cycle_name: str
    batch_id: int
    exposure_date: dt.date | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Before:
    """The cycle before another one.

    Attributes:
        chosen: its batch with figures.
        reason: why it is the cycle before, in words.
    """

    chosen: Chosen
    reason: str


def cycle_named(name: str) -> Cycle:
    """Return a cycle.

    Raises:
        ComparisonError: there is none of that name.
    """
    cycle = find_cycle(name)
    if cycle is None:
        raise ComparisonError(f"There is no cycle {name!r} in schema {get_current_schema()!r}")
    return cycle


def choose(cycle: Cycle, batch_id: int | None = None) -> Chosen:
    """Return the batch of a cycle whose figures are compared.

    Args:
        cycle: the cycle.
        batch_id: one of its batches; None means that of its active configuration, else the newest.

    Raises:
        ComparisonError: it has no such batch, or no saved figures.
    """
    if batch_id is None:
        found = with_figures(cycle)
        if found is None:
            raise ComparisonError(
                f"The cycle {cycle.cycle_name} has no saved figures yet, so there is nothing to compare. To see its "
                f"progress: irp status {cycle.cycle_name}"
            )
        return found
    row = fetch_one(f"{_BATCH} WHERE f.cycle_id = %s AND b.id = %s AND {_WITH_FIGURES}", (cycle.id, batch_id))
    if row is None:
        raise ComparisonError(
            f"The cycle {cycle.cycle_name} has no batch {batch_id} with saved figures. To list its batches: "
            f"irp batch list {cycle.cycle_name}"
        )
    return _chosen(row | {"cycle_id": cycle.id, "cycle_name": cycle.cycle_name})


def with_figures(cycle: Cycle) -> Chosen | None:
    """Return the batch of a cycle whose figures are compared: that of its active configuration, else the newest.

    Args:
        cycle: the cycle.

    Returns:
        The batch; None if the cycle has no saved figures.
    """
    row = fetch_one(f"{_BATCH} WHERE f.cycle_id = %s AND {_WITH_FIGURES} {_NEWEST_FIRST}", (cycle.id,))
    return None if row is None else _chosen(row | {"cycle_id": cycle.id, "cycle_name": cycle.cycle_name})


def choose_before(later: Chosen, cycle: Cycle, before: str | None, batch_id: int | None = None) -> tuple[Chosen, str]:
    """Return the earlier one of two batches, with the reason for it in words.

    Args:
        later: the later one.
        cycle: its cycle.
        before: the earlier cycle; None means the one before by exposure date.
        batch_id: a batch of ``before``; None means that of its active configuration.

    Raises:
        ComparisonError: there is no such cycle or batch, it has no figures, or there is no cycle before.
    """
    if before is not None:
        return choose(cycle_named(before), batch_id), "by choice"
    previous = cycle_before(cycle, later.exposure_date)
    if previous is None:
        raise ComparisonError(f"There is no cycle with figures before {cycle.cycle_name}: name the one to compare with")
    return previous.chosen, previous.reason


def cycle_before(cycle: Cycle, exposure_date: dt.date | None) -> Before | None:
    """Return the cycle before another one, of those that have figures; None if there is none.

    Args:
        cycle: the cycle.
        exposure_date: its exposure date, if it has one.
    """
    older, younger = (_neighbours(cycle, sign, order) for sign, order in (("<", "DESC"), (">", "ASC")))
    found = before_of(cycle.cycle_name, exposure_date, older, younger)
    return None if found is None else Before(chosen=found[0], reason=found[1])


def _neighbours(cycle: Cycle, sign: str, order: str) -> list[Chosen]:
    """Return the older (``<``) or younger (``>``) cycles with figures, the nearest in age first."""
    rows = fetch_all(
        f"""
        SELECT c.id AS cycle_id, c.cycle_name, newest.*
          FROM (SELECT id, cycle_name, created_ts FROM irp_cycle
                 WHERE (created_ts, id) {sign} (SELECT created_ts, id FROM irp_cycle WHERE id = %s)
                 ORDER BY created_ts {order}, id {order} LIMIT {_NEIGHBOURS}) c,
               LATERAL ({_BATCH} WHERE f.cycle_id = c.id AND {_WITH_FIGURES} {_NEWEST_FIRST}) newest
         ORDER BY c.created_ts {order}, c.id {order}
        """,  # noqa: S608
        (cycle.id,),
    )
    return [_chosen(row) for row in rows]


def _chosen(row: dict[str, Any]) -> Chosen:
    return Chosen(**row | {"exposure_date": stated_date(row["exposure_date"])})
