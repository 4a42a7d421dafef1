"""Recording attributions in ``irp_attribution``, and reading them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from irp_pipeline.helpers.attribution.factors import Factor
from irp_pipeline.helpers.attribution.parts import Part, Point, point_of
from irp_pipeline.helpers.attribution.paths import paths_of
from irp_pipeline.helpers.comparison.choosing import with_figures
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.helpers.cycle_lookup import Cycle, find_cycle
from irp_pipeline.helpers.result import get_results, recorded_figures
from irp_pipeline.postgres.running import (
    bulk_insert,
    execute_command,
    execute_scalar,
    fetch_all,
    fetch_one,
    transaction,
)
from irp_pipeline.vocabulary import Perspective

_COLUMNS = """
    analysis_name, is_group, perspective, metric, return_period, loss_factor, currency, position, factor, loss_before,
    loss_after, sampling_error, sampling_error_unknown, remark
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """The attribution of the change from an earlier cycle to a later one.

    Attributes:
        batch_id: the batch that ran what lies between them.
        earlier_cycle: the earlier cycle.
        computed_ts: when it was computed.
        parts: the parts, by analysis or group and figure, in the order in which the factors change.
    """

    batch_id: int
    earlier_cycle: str
    computed_ts: datetime
    parts: tuple[Part, ...] = field(repr=False)


def save_parts(batch_id: int, earlier_cycle: str, parts: Sequence[Part]) -> None:
    """Replace the parts of a batch, in one transaction.

    Args:
        batch_id: the batch that ran them.
        earlier_cycle: the earlier cycle.
        parts: the parts.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    with transaction():
        execute_scalar("SELECT id FROM irp_batch WHERE id = %s FOR NO KEY UPDATE", (batch_id,))  # one save at a time
        execute_command("DELETE FROM irp_attribution WHERE batch_id = %s", (batch_id,))
        bulk_insert(
            f"""
            INSERT INTO irp_attribution (batch_id, earlier_cycle, {_COLUMNS})
            VALUES ({", ".join(["%s"] * 16)})
            """,  # noqa: S608
            (
                (
                    batch_id,
                    earlier_cycle,
                    part.analysis_name,
                    part.is_group,
                    *part.point,
                    part.currency,
                    part.position,
                    part.factor,
                    part.before,
                    part.after,
                    part.sampling_error,
                    part.sampling_error_unknown,
                    part.remark,
                )
                for part in parts
            ),
        )


def find_attribution(cycle: Cycle, earlier_cycle: str | None = None) -> Attribution | None:
    """Return the newest attribution of a cycle whose figures are still those of both cycles; None if there is none.

    Content decides: each path begins with a figure that the earlier cycle has, and ends with one that the later cycle
    has. A part of an analysis whose figures have changed since is left out.

    Args:
        cycle: the later cycle.
        earlier_cycle: only one from this earlier cycle.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    newest = fetch_one(
        """
        SELECT b.id AS batch_id, a.earlier_cycle, a.created_ts
          FROM irp_configuration f
          JOIN irp_batch b ON b.configuration_id = f.id AND b.batch_type = %s
          JOIN LATERAL (SELECT earlier_cycle, created_ts FROM irp_attribution WHERE batch_id = b.id LIMIT 1) a ON true
         WHERE f.cycle_id = %s AND (%s::text IS NULL OR a.earlier_cycle = %s)
         ORDER BY b.id DESC LIMIT 1
        """,
        (BatchType.ATTRIBUTION, cycle.id, earlier_cycle, earlier_cycle),
    )
    if newest is None:
        return None
    rows = fetch_all(
        f"""
        SELECT {_COLUMNS} FROM irp_attribution WHERE batch_id = %s
         ORDER BY is_group, analysis_name, perspective, metric, return_period, loss_factor, position
        """,  # noqa: S608
        (newest["batch_id"],),
    )
    now = [_figures_now(of) for of in (find_cycle(newest["earlier_cycle"]), cycle)]
    parts: list[Part] = []
    for path in paths_of(map(_part, rows)):
        key = path[0].analysis_name, path[0].point
        if now[0].get(key) == path[0].before and now[1].get(key) == path[-1].after:
            parts += path
    return Attribution(
        batch_id=newest["batch_id"],
        earlier_cycle=newest["earlier_cycle"],
        computed_ts=newest["created_ts"],
        parts=tuple(parts),
    )


def _part(row: dict[str, Any]) -> Part:
    return Part(
        analysis_name=row["analysis_name"],
        is_group=row["is_group"],
        point=Point(Perspective(row["perspective"]), row["metric"], row["return_period"], row["loss_factor"]),
        currency=row["currency"],
        position=row["position"],
        factor=Factor(row["factor"]),
        before=row["loss_before"],
        after=row["loss_after"],
        sampling_error=row["sampling_error"],
        sampling_error_unknown=row["sampling_error_unknown"],
        remark=row["remark"],
    )


def _figures_now(cycle: Cycle | None) -> dict[tuple[str, Point], float]:
    """Return the saved figures of whole portfolios that a cycle has now."""
    chosen = None if cycle is None else with_figures(cycle)
    if chosen is None:
        return {}
    saved = recorded_figures(get_results(chosen.batch_id))
    return {(of.analysis_name, point_of(of.figure)): of.figure.loss for of in saved}
