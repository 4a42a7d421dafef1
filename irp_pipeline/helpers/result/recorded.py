"""Recorded figures: those that are saved in ``irp_analysis_result``.

Here: reading them for a batch. Not here: saving them
(:mod:`irp_pipeline.helpers.result.recording`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irp_pipeline.losses import Figure
from irp_pipeline.postgres.running import execute_query, fetch_all
from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    import pandas as pd

_FIGURE_COLUMNS = """
    r.analysis_name, r.is_group, r.perspective, r.metric, r.return_period, r.loss_factor, r.loss, r.currency, r.job_ids
"""
_FIGURE_ORDER = """
    r.is_group, r.analysis_name, array_position(ARRAY[{}], r.perspective), array_position(ARRAY[{}], r.metric),
    r.metric, r.return_period, r.loss_factor
""".format(*(", ".join(f"'{word}'" for word in words) for words in (Perspective, Metric)))


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedFigure:
    """A saved figure, with its analysis or group.

    Attributes:
        analysis_name: the analysis or group.
        is_group: whether it is a group.
        figure: the figure.
        currency: of the loss.
        job_ids: the jobs that it comes from.
    """

    analysis_name: str
    is_group: bool
    figure: Figure
    currency: str
    job_ids: tuple[int, ...]


def recorded_figures(results: pd.DataFrame) -> list[RecordedFigure]:
    """Return rows of :func:`get_results` as typed figures, in their order."""
    plain = results.astype(object).where(results.notna(), None)
    return [
        RecordedFigure(
            analysis_name=row["analysis_name"],
            is_group=row["is_group"],
            figure=Figure.from_json({str(column): value for column, value in row.items()}),
            currency=row["currency"],
            job_ids=tuple(row["job_ids"]),
        )
        for row in plain.to_dict("records")
    ]


def get_results(batch_id: int) -> pd.DataFrame:
    """Return the saved figures of a batch.

    Returns:
        One row per figure: analysis_name, is_group, perspective, metric, return_period (years; of OEP and AEP, and of
        declared metrics that have them),
        loss_factor (of LOSS), loss, currency, job_ids. Analyses first, then groups.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    return execute_query(
        f"SELECT {_FIGURE_COLUMNS} FROM irp_analysis_result r WHERE r.batch_id = %s ORDER BY {_FIGURE_ORDER}",  # noqa: S608
        (batch_id,),
    )


def analyses_by_means(batch_id: int) -> set[str]:
    """Return the analyses of a batch whose saved figures are computed without samples, from mean losses.

    Args:
        batch_id: the batch.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT DISTINCT r.analysis_name
          FROM irp_analysis_result r
          JOIN irp_job j ON j.id = ANY (r.job_ids)
         WHERE r.batch_id = %s AND NOT r.is_group AND j.result_data #>> '{provenance,losses_by}' = 'means'
        """,
        (batch_id,),
    )
    return {row["analysis_name"] for row in rows}


def saved_content(batch_id: int) -> list[list[object]]:
    """Return the saved figures of a batch as plain data without ids, in a fixed order."""
    rows = fetch_all(
        """
        SELECT analysis_name, is_group, perspective, metric, return_period, loss_factor, loss, currency
          FROM irp_analysis_result WHERE batch_id = %s
         ORDER BY analysis_name, perspective, metric, return_period, loss_factor
        """,
        (batch_id,),
    )
    return [list(row.values()) for row in rows]
