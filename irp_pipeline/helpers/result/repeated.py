"""How far figures spread over runs with other draws, in ``irp_repeated_figure``.

Here: saving and reading. Not here: the runs (:mod:`irp_pipeline.helpers.repeats`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from irp_pipeline.hashes import value_hash
from irp_pipeline.helpers.constants import BatchType
from irp_pipeline.postgres.running import bulk_insert, execute_command, execute_scalar, fetch_all, transaction


class SureOf(NamedTuple):
    """What an uncertainty is of: the key of a figure."""

    analysis_name: str
    perspective: str
    metric: str
    return_period: float | None
    segment_by: tuple[str, ...] = ()
    segment: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatedFigure:
    """A figure over several runs with other draws.

    Attributes:
        key: which figure.
        is_group: whether it is that of a group.
        loss: the figure of the cycle, one of the runs.
        currency: of the amounts.
        runs: the number of runs, with that of the cycle.
        mean: the mean over the runs.
        deviation: the standard deviation over the runs (``ddof`` 1): how far a figure of a single run is off.
    """

    key: SureOf
    is_group: bool
    loss: float
    currency: str
    runs: int
    mean: float
    deviation: float


def save_repeated(batch_id: int, figures: Iterable[RepeatedFigure]) -> None:
    """Replace the figures of a batch of repeated runs, in one transaction.

    Args:
        batch_id: the batch that ran them.
        figures: the figures.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    with transaction():
        execute_scalar("SELECT id FROM irp_batch WHERE id = %s FOR NO KEY UPDATE", (batch_id,))  # one save at a time
        execute_command("DELETE FROM irp_repeated_figure WHERE batch_id = %s", (batch_id,))
        bulk_insert(
            """
            INSERT INTO irp_repeated_figure (batch_id, analysis_name, perspective, metric, return_period, segment_by,
                                             segment, is_group, loss, currency, runs, mean, deviation)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
            """,
            (
                (
                    batch_id,
                    *figure.key[:4],
                    list(figure.key.segment_by),
                    list(figure.key.segment),
                    figure.is_group,
                    figure.loss,
                    figure.currency,
                    figure.runs,
                    figure.mean,
                    figure.deviation,
                )
                for figure in figures
            ),
        )


def repeated_figures(cycle_id: int) -> list[RepeatedFigure]:
    """Return the figures of the newest repeated runs of a cycle that were counted.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT r.* FROM irp_repeated_figure r
         WHERE r.batch_id = (
               SELECT b.id FROM irp_configuration f
                 JOIN irp_batch b ON b.configuration_id = f.id AND b.batch_type = %s
                WHERE f.cycle_id = %s AND EXISTS (SELECT FROM irp_repeated_figure WHERE batch_id = b.id)
                ORDER BY b.id DESC LIMIT 1)
        """,
        (BatchType.REPEATS, cycle_id),
    )
    return [
        RepeatedFigure(
            key=SureOf(
                row["analysis_name"],
                row["perspective"],
                row["metric"],
                row["return_period"],
                tuple(row["segment_by"]),
                tuple(row["segment"]),
            ),
            **{name: row[name] for name in ("is_group", "loss", "currency", "runs", "mean", "deviation")},
        )
        for row in rows
    ]


def repeated_content(cycle_id: int) -> str | None:
    """Return a hash of :func:`repeated_figures`; None if there are none.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    found = sorted(
        ([*figure.key, figure.loss, figure.runs, figure.deviation] for figure in repeated_figures(cycle_id)), key=repr
    )
    return value_hash(found) if found else None
