"""The section on what changed since the cycle before: its content, from the records of both cycles.

Here: which of the compared figures a reader is shown, few enough for a page. Not here: comparing them
(:mod:`irp_pipeline.helpers.comparison`), and the chart (:mod:`irp_pipeline.report.comparison_chart`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from irp_pipeline.helpers.comparison import (
    Comparison,
    ExposureLine,
    compare_with_cycle_before,
    exposure_row,
)
from irp_pipeline.vocabulary import CURVES, Metric, Perspective

if TYPE_CHECKING:
    import pandas as pd

_MOST_SUBJECTS: Final = 20
_MOST_CURVES: Final = 8
_MOST_SEGMENTS: Final = 10
_MOST_PORTFOLIOS: Final = 10


@dataclass(frozen=True, kw_only=True)
class ComparedFigure:
    """A figure on both sides.

    Attributes:
        perspective: its perspective.
        metric: its metric.
        point: the return period in years, or the loss factor; None if its metric has neither.
        currency: of the later side, else of the earlier one.
        before: on the earlier side, if it is there.
        after: on the later side, if it is there.
        change: the change, if the two can be compared.
        share: the change as a share of ``before``; None if that is zero.
        note: what besides the exposure differs, or why there is no change; empty if there is nothing to say.
    """

    perspective: Perspective
    metric: str
    point: float | None
    currency: str
    before: float | None
    after: float | None
    change: float | None
    share: float | None
    note: str


@dataclass(frozen=True, kw_only=True)
class ComparedPart:
    """An analysis or group, or a segment of one, with compared figures.

    Attributes:
        name: the analysis or group.
        is_group: whether it is a group.
        segment_by: the fields of the segment, joined by ``+``; empty for a whole portfolio.
        segment: their values, likewise.
        figures: the compared figures.
    """

    name: str
    is_group: bool
    segment_by: str
    segment: str
    figures: tuple[ComparedFigure, ...] = field(repr=False)

    def figure(self, perspective: Perspective, metric: str, point: float | None) -> ComparedFigure | None:
        """Return one figure, or None if there is no such figure."""
        wanted = (perspective, metric, point)
        return next((one for one in self.figures if (one.perspective, one.metric, one.point) == wanted), None)

    @property
    def leading(self) -> tuple[ComparedFigure, ...]:
        """Its averages, or its losses at loss factors."""
        return tuple(one for one in self.figures if one.metric in {Metric.AAL, Metric.LOSS})

    @property
    def curves(self) -> tuple[ComparedFigure, ...]:
        """The points of its curves."""
        return tuple(one for one in self.figures if one.metric in CURVES)


@dataclass(frozen=True, kw_only=True)
class ComparedSource:
    """A fact, besides the exposure, in which analyses and groups differ.

    Attributes:
        what: the fact.
        before: on the earlier side.
        after: on the later side.
        names: the analyses and groups; of a group with the members that differ, unless all of them do.
    """

    what: str
    before: str
    after: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ComparisonSection:
    """What the report says about the cycle before.

    Attributes:
        before: how the earlier side is called.
        after: how the later side is called.
        chosen: why it is the earlier side.
        exposure: the portfolios, all together first.
        sources: what besides the exposure differs.
        parts: the analyses and groups that move the total most.
        segments: for each kind of segments those that move the total most.
        left_out: how many analyses and groups are not shown.
        segments_of: the analysis or group to which the segments belong.
    """

    before: str
    after: str
    chosen: str
    exposure: tuple[ExposureLine, ...]
    sources: tuple[ComparedSource, ...]
    parts: tuple[ComparedPart, ...]
    segments: tuple[tuple[str, tuple[ComparedPart, ...]], ...]
    left_out: int
    segments_of: str

    def part(self, name: str) -> ComparedPart | None:
        """Return an analysis or group that is shown."""
        return next((part for part in self.parts if part.name == name), None)

    @property
    def with_curves(self) -> tuple[ComparedPart, ...]:
        """The analyses and groups whose curves are drawn: the first of those that are shown."""
        return tuple(part for part in self.parts if part.curves)[:_MOST_CURVES]

    def content(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "before": self.before,
            "chosen": self.chosen,
            "exposure": [exposure_row(line) for line in self.exposure],
            "sources": [asdict(source) for source in self.sources],
            "parts": [asdict(part) for part in self.parts],
            "segments": [[by, [asdict(part) for part in parts]] for by, parts in self.segments],
            "left out": self.left_out,
        }


def collect_comparison(cycle_name: str, batch_id: int, headline: str | None) -> ComparisonSection | None:
    """Compare a batch with the cycle before.

    Args:
        cycle_name: the cycle.
        batch_id: its batch.
        headline: its main analysis or group, which is always shown.

    Returns:
        What the report says; None if the batch has no saved figures, or no earlier cycle has any.
    """
    found = compare_with_cycle_before(cycle_name, batch_id)
    return None if found is None else comparison_section(found, headline)


def comparison_section(found: Comparison, headline: str | None = None) -> ComparisonSection:
    """Return what is shown of a comparison.

    Args:
        found: the comparison.
        headline: the main analysis or group, which is always shown.
    """
    figures = found.figures
    whole = figures[figures["segment_by"] == ""]
    names = list(whole["analysis_name"].drop_duplicates())
    shown = names[:_MOST_SUBJECTS]
    if headline in names and headline not in shown:
        shown = [headline, *shown[:-1]]
    portfolios = list(dict.fromkeys(line.portfolio for line in found.exposure))[: _MOST_PORTFOLIOS + 1]
    return ComparisonSection(
        before=found.before.label,
        after=found.after.label,
        chosen=found.chosen,
        exposure=tuple(line for line in found.exposure if line.portfolio in portfolios),
        sources=tuple(_sources(found)),
        parts=tuple(_parts(whole[whole["analysis_name"].isin(shown)])),
        segments=tuple(_segments(figures, headline)),
        left_out=len(names) - len(shown),
        segments_of=headline or "",
    )


def _sources(found: Comparison) -> Iterator[ComparedSource]:
    names: dict[tuple[str, str, str], list[str]] = {}
    for name, items in found.differences.items():
        for item in items:
            of = f" ({', '.join(item.analyses)})" if item.analyses else ""
            names.setdefault((item.what, item.before, item.after), []).append(f"{name}{of}")
    for (what, before, after), of_these in names.items():
        yield ComparedSource(what=what, before=before, after=after, names=tuple(of_these))


def _segments(figures: pd.DataFrame, headline: str | None) -> Iterator[tuple[str, tuple[ComparedPart, ...]]]:
    """Yield the segments that move the total most: those of the main analysis or group, else of all analyses."""
    of_segments = figures[figures["segment_by"] != ""]
    if headline is not None and (of_segments["analysis_name"] == headline).any():
        of_segments = of_segments[of_segments["analysis_name"] == headline]
    for by, rows in of_segments.groupby("segment_by", sort=False, observed=True):
        numbers = rows.groupby(["analysis_name", "segment"], sort=False, observed=True).ngroup()
        yield str(by), tuple(_parts(rows[numbers < _MOST_SEGMENTS]))


def _parts(rows: pd.DataFrame) -> Iterator[ComparedPart]:
    keys = ["analysis_name", "segment_by", "segment"]
    for _, part in rows.groupby(keys, sort=False, observed=True):
        first = part.iloc[0]
        yield ComparedPart(
            name=str(first["analysis_name"]),
            is_group=bool(first["is_group"]),
            segment_by=str(first["segment_by"]),
            segment=str(first["segment"]),
            figures=tuple(_figures(part)),
        )


def _figures(rows: pd.DataFrame) -> Iterator[ComparedFigure]:
    plain = rows.astype(object).where(rows.notna(), None)
    for row in plain.to_dict("records"):
        yield ComparedFigure(
            perspective=Perspective(row["perspective"]),
            metric=Metric.known(row["metric"]),
            point=_first(row["return_period"], row["loss_factor"]),
            currency=_first(row["currency_after"], row["currency_before"]) or "",
            before=row["before"],
            after=row["after"],
            change=row["change"],
            share=row["relative_change"],
            note=row["not_compared"] or row["differences"],
        )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def by_portfolio(lines: Iterable[ExposureLine]) -> list[tuple[str, list[ExposureLine]]]:
    """Return lines of exposure by portfolio."""
    found: dict[str, list[ExposureLine]] = {}
    for line in lines:
        found.setdefault(line.portfolio, []).append(line)
    return list(found.items())
