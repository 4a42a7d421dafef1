"""What the pages show of results: analyses and groups, their figures, and those of segments.

A batch of 10,000 analyses has half a million figures, and with segments many more. So names, kinds of segments and
segments are found by jumping through the index from one to the next, and figures are read only for those on a page.

https://wiki.postgresql.org/wiki/Loose_indexscan
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from irp_pipeline.losses import Figure
from irp_pipeline.postgres.running import fetch_all
from irp_pipeline.vocabulary import USUAL_RETURN_PERIODS, Metric, Perspective

Values = tuple[str, ...]

_NEXT_NAME: Final = """
        SELECT further.analysis_name FROM unnest(%s::bigint[]) AS of (batch_id), LATERAL (
            SELECT r.analysis_name FROM irp_analysis_result r
             WHERE r.batch_id = of.batch_id AND r.segment_by = '{{}}' AND r.analysis_name > {}
             ORDER BY r.analysis_name LIMIT 1) further
         ORDER BY further.analysis_name LIMIT 1
"""
_NAMES: Final = f"""
    WITH RECURSIVE names AS (
        ({_NEXT_NAME.format("%s")})
        UNION ALL
        SELECT following.* FROM names, LATERAL ({_NEXT_NAME.format("names.analysis_name")}) following
    )
    SELECT analysis_name FROM names LIMIT %s
"""  # noqa: S608
_FIELDS: Final = """
    WITH RECURSIVE fields AS (
        (SELECT segment_by FROM irp_analysis_result
          WHERE batch_id = %s AND segment_by > '{}' ORDER BY segment_by LIMIT 1)
        UNION ALL
        SELECT further.* FROM fields, LATERAL (
            SELECT segment_by FROM irp_analysis_result
             WHERE batch_id = %s AND segment_by > fields.segment_by ORDER BY segment_by LIMIT 1) further
    )
    SELECT segment_by FROM fields
     WHERE EXISTS (SELECT FROM irp_analysis_result r
                    WHERE r.batch_id = %s AND r.segment_by = fields.segment_by AND r.analysis_name = %s)
     LIMIT %s
"""
_SEGMENTS: Final = """
    WITH RECURSIVE segments AS (
        (SELECT segment FROM irp_analysis_result
          WHERE batch_id = %s AND segment_by = %s::text[] AND analysis_name = %s AND segment > %s::text[]
          ORDER BY segment LIMIT 1)
        UNION ALL
        SELECT further.* FROM segments, LATERAL (
            SELECT segment FROM irp_analysis_result
             WHERE batch_id = %s AND segment_by = %s::text[] AND analysis_name = %s AND segment > segments.segment
             ORDER BY segment LIMIT 1) further
    )
    SELECT segment FROM segments LIMIT %s
"""
_FIGURES: Final = """
    SELECT analysis_name, is_group, currency, perspective, metric, return_period, loss_factor, loss
      FROM irp_analysis_result
     WHERE batch_id = %s AND segment_by = '{}' AND analysis_name = ANY (%s)
       AND (%s OR metric IN ('AAL', 'LOSS') OR return_period = ANY (%s::float8[]))
"""
_OF_SEGMENTS: Final = """
    SELECT r.segment, r.currency, r.perspective, r.metric, r.return_period, r.loss_factor, r.loss
      FROM (SELECT DISTINCT segment::text[] FROM unnest(%s::text[]) AS given (segment)) given
      JOIN irp_analysis_result r ON r.segment = given.segment
     WHERE r.batch_id = %s AND r.segment_by = %s::text[] AND r.analysis_name = %s
       AND (r.metric IN ('AAL', 'LOSS') OR r.return_period = ANY (%s::float8[]))
"""
_MOST_FIELDS: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """An analysis, a group, or a segment of one, with its figures.

    Attributes:
        name: its name; of a segment, its values.
        is_group: whether it is a group.
        currency: of its losses.
        figures: those that were read.
    """

    name: str
    is_group: bool
    currency: str
    figures: tuple[Figure, ...]

    @property
    def perspectives(self) -> list[Perspective]:
        """The perspectives for which it has figures."""
        return Perspective.among(figure.perspective for figure in self.figures)

    def loss(self, perspective: str, metric: str, point: float | None = None) -> float | None:
        """Return a loss, at a return period (years) or a loss factor if the metric has one; None if it has none."""
        for figure in self.figures:
            if (figure.perspective, figure.metric) == (perspective, metric) and point in {
                figure.return_period,
                figure.loss_factor,
            }:
                return figure.loss
        return None

    def points(self, metric: str) -> list[float]:
        """Return the return periods, or the loss factors, at which it has losses of a metric."""
        of_metric = [figure for figure in self.figures if figure.metric == metric]
        found = {of.return_period if of.return_period is not None else of.loss_factor for of in of_metric}
        return sorted(point for point in found if point is not None)

    def metrics(self) -> list[str]:
        """Return its metrics: the usual ones in their order, then those that distributions declare."""
        there = {str(figure.metric) for figure in self.figures}
        usual = [str(metric) for metric in Metric if metric in there]
        return usual + sorted(there - set(usual))


def names_after(batch_ids: Sequence[int], limit: int, after: str = "") -> list[str]:
    """Return the names of analyses and groups that have saved figures, in the order of the database.

    Args:
        batch_ids: of one batch, or of several: a name that several have is there once.
        limit: how many at most.
        after: only those after this name.
    """
    batches = list(batch_ids)
    return [row["analysis_name"] for row in fetch_all(_NAMES, (batches, after, batches, limit))]


def read_subjects(batch_id: int, names: Sequence[str], *, whole: bool = False) -> dict[str, Subject]:
    """Return analyses and groups with their figures, by name.

    Args:
        batch_id: the batch.
        names: which of them.
        whole: all figures; otherwise AAL, LOSS, and what is at the usual return periods, but all of an analysis or
            group that has none of these.
    """
    found = _rows_of(batch_id, names, whole=whole)
    if not whole and (others := [name for name in names if name not in found]):
        found |= _rows_of(batch_id, others, whole=True)
    return {name: _subject(name, found[name]) for name in names if name in found}


def _rows_of(batch_id: int, names: Sequence[str], *, whole: bool) -> dict[str, list[Mapping[str, Any]]]:
    found: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in fetch_all(_FIGURES, (batch_id, list(names), whole, list(USUAL_RETURN_PERIODS))):
        found[row["analysis_name"]].append(row)
    return found


def segment_fields(batch_id: int, name: str) -> list[Values]:
    """Return the combinations of OED fields by whose segments an analysis or group has figures."""
    rows = fetch_all(_FIELDS, (batch_id, batch_id, batch_id, name, _MOST_FIELDS))
    return [tuple(row["segment_by"]) for row in rows]


def segments_after(batch_id: int, by: Values, name: str, limit: int, after: Values = ()) -> list[Values]:
    """Return segments of an analysis or group, in the order of the database.

    Args:
        batch_id: the batch.
        by: the OED fields.
        name: the analysis or group.
        limit: how many at most.
        after: only those after this one.
    """
    of = (batch_id, list(by), name)
    return [tuple(row["segment"]) for row in fetch_all(_SEGMENTS, (*of, list(after), *of, limit))]


def read_segments(batch_id: int, by: Values, name: str, segments: Collection[Values]) -> list[Subject]:
    """Return segments with their AAL, LOSS and what is at the usual return periods, in the order given."""
    rows = fetch_all(_OF_SEGMENTS, (_array_texts(segments), batch_id, list(by), name, list(USUAL_RETURN_PERIODS)))
    found: defaultdict[Values, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[tuple(row["segment"])].append(row)
    return [_subject(" + ".join(value or "(empty)" for value in of), found[of]) for of in segments if of in found]


def _array_texts(segments: Collection[Values]) -> list[str]:
    """Return arrays as PostgreSQL writes them: an array of arrays would have to be a matrix."""
    return ["{" + ",".join(_quoted(value) for value in segment) + "}" for segment in segments]


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _subject(name: str, rows: Sequence[Mapping[str, Any]]) -> Subject:
    figures = sorted(
        (Figure.from_json(row) for row in rows),
        key=lambda of: (str(of.perspective), str(of.metric), of.return_period or of.loss_factor or 0),
    )
    return Subject(
        name=name, is_group=rows[0].get("is_group", False), currency=rows[0]["currency"], figures=tuple(figures)
    )
