"""Recorded figures: those that are saved in ``irp_analysis_result``.

Here: reading them for a batch. Not here: saving them
(:mod:`irp_pipeline.helpers.result.recording`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
_SEGMENT_COLUMNS = "r.segment_by, r.segment"
_OWNER_ORDER = "r.is_group, r.analysis_name"
_LOSS_ORDER = """
    array_position(ARRAY[{}], r.perspective), array_position(ARRAY[{}], r.metric), r.metric, r.return_period,
    r.loss_factor
""".format(*(", ".join(f"'{word}'" for word in words) for words in (Perspective, Metric)))
_FIGURE_ORDER = f"{_OWNER_ORDER}, {_LOSS_ORDER}"


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
    plain = results.astype(object).where(results.notna(), None).assign(loss=results["loss"])  # never missing, maybe NaN
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


def get_results(
    batch_id: int,
    *,
    segments: bool = False,
    by: Sequence[str] | None = None,
    segment_return_periods: Collection[float] | None = None,
) -> pd.DataFrame:
    """Return the saved figures of a batch: those of whole portfolios, and of segments only if they are asked for.

    Args:
        batch_id: the batch.
        segments: also the figures of all segments.
        by: instead, only the figures of the segments by these OED fields.
        segment_return_periods: of segments only AAL, LOSS, and what is at these return periods (years); None means all.

    Returns:
        One row per figure: analysis_name, is_group, perspective, metric, return_period (years; of OEP and AEP, and of
        declared metrics that have them),
        loss_factor (of LOSS), loss, currency, job_ids. With segments also segment_by and segment, lists of OED fields
        and of their values; both are empty for the whole. The whole first; analyses first, then groups.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    if by is None and not segments:
        return execute_query(
            f"""
            SELECT {_FIGURE_COLUMNS} FROM irp_analysis_result r
             WHERE r.batch_id = %s AND r.segment_by = '{{}}' ORDER BY {_FIGURE_ORDER}
            """,  # noqa: S608
            (batch_id,),
        )
    return execute_query(
        f"""
        SELECT {_FIGURE_COLUMNS}, {_SEGMENT_COLUMNS} FROM irp_analysis_result r
         WHERE r.batch_id = %s AND (%s::text[] IS NULL OR r.segment_by = %s::text[])
           AND (%s::float8[] IS NULL OR r.segment_by = '{{}}' OR r.metric IN ('AAL', 'LOSS')
                OR r.return_period = ANY(%s::float8[]))
         ORDER BY r.segment_by, {_OWNER_ORDER}, r.segment, {_LOSS_ORDER}
        """,  # noqa: S608
        (
            batch_id,
            *[None if by is None else list(by)] * 2,
            *[None if segment_return_periods is None else list(segment_return_periods)] * 2,
        ),
    )


def segment_fields(batch_id: int) -> list[tuple[str, ...]]:
    """Return the combinations of OED fields by whose segments a batch has saved figures.

    Args:
        batch_id: the batch.

    Raises:
        DatabaseError: the database refuses or is away.
    """
    rows = fetch_all(
        """
        SELECT DISTINCT segment_by FROM irp_analysis_result
         WHERE batch_id = %s AND segment_by <> '{}' ORDER BY segment_by
        """,
        (batch_id,),
    )
    return [tuple(row["segment_by"]) for row in rows]


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
    """Return the saved figures of a batch as plain data without ids, in a fixed order.

    Those of whole portfolios come first; each of a segment has two more entries, its fields and their values.
    """
    rows = fetch_all(
        """
        SELECT analysis_name, is_group, perspective, metric, return_period, loss_factor, loss, currency,
               segment_by, segment
          FROM irp_analysis_result WHERE batch_id = %s
         ORDER BY segment_by, analysis_name, segment, perspective, metric, return_period, loss_factor
        """,
        (batch_id,),
    )
    return [[*row.values()] if row["segment_by"] else [*row.values()][:-2] for row in rows]
