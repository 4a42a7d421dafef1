"""The content of the section on segments, as typed values.

Here: the values. Not here: reading them (:mod:`irp_pipeline.report.segments`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from irp_pipeline.vocabulary import Perspective

_MOST_BARS: Final = 10


@dataclass(frozen=True)
class SegmentLoss:
    """The losses of a segment in one perspective.

    Attributes:
        mean: its average annual loss, or the loss at the stated loss factor.
        share: as a share of that of the whole; None if that is zero.
        at_return_period: its OEP at the stated return period.
    """

    mean: float
    share: float | None
    at_return_period: float | None


@dataclass(frozen=True)
class SegmentRow:
    """A segment.

    Attributes:
        name: its values, joined.
        tiv: its insured value; None if it is not known.
        tiv_share: as a share of the insured value of all segments.
        locations: how many locations it has.
        losses: by perspective; empty if the model does not cover it.
    """

    name: str
    tiv: float | None
    tiv_share: float | None
    locations: int | None
    losses: Mapping[Perspective, SegmentLoss] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentTable:
    """The segments of an analysis or group by one combination of fields.

    Attributes:
        subject: the analysis or group.
        is_group: whether it is a group.
        currency: of the amounts.
        by: the OED fields, joined.
        perspectives: those that it has losses of.
        metric: AAL or LOSS.
        loss_factor: of LOSS: the largest.
        return_period: of the column with OEP, in years; None: no such column.
        rows: the segments with the largest losses, the largest first.
        others: how many more there are.
    """

    subject: str
    is_group: bool
    currency: str
    by: str
    perspectives: tuple[Perspective, ...]
    metric: str
    loss_factor: float | None
    return_period: float | None
    rows: tuple[SegmentRow, ...]
    others: int

    @property
    def bars(self) -> tuple[SegmentRow, ...]:
        """The rows that the chart shows."""
        return tuple(row for row in self.rows if row.losses)[:_MOST_BARS]

    @property
    def shown(self) -> Perspective:
        """The perspective of the bars: the one closest to the insurer."""
        return self.perspectives[-1]


@dataclass(frozen=True)
class Segments:
    """All segments of a report.

    Attributes:
        tables: by subject and combination of fields.
        rules: how losses are allocated to segments, in words.
        left_out: how many tables there are beyond those that are shown.
    """

    tables: tuple[SegmentTable, ...] = ()
    rules: str = ""
    left_out: int = 0

    def content(self) -> list[Any]:
        """Return it as plain data."""
        return [
            [
                *(table.subject, table.by, table.currency, table.others),
                [
                    [row.name, row.tiv, row.locations, [[of.mean, of.at_return_period] for of in row.losses.values()]]
                    for row in table.rows
                ],
            ]
            for table in self.tables
        ]
