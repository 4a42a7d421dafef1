"""The section on what-ifs: the rows of the tables in which each is shown beside its base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from irp_pipeline.helpers.attribution import Point
from irp_pipeline.helpers.result import Difference, WhatIf
from irp_pipeline.losses import Figure
from irp_pipeline.report.display import deviation, metric_title, signed_amount, years
from irp_pipeline.vocabulary import Metric

_WORDS: Final[dict[str, str]] = {Metric.STD_DEV: "Std. dev.", Metric.LOSS: "Loss"}
_MAIN: Final = frozenset({Metric.AAL, Metric.LOSS})
"""The figures that are always shown; the others are folded."""


@dataclass(frozen=True)
class Row:
    """A row of a table: a figure of a what-if beside that of its base."""

    words: str
    perspective: str
    base_loss: float
    loss: float
    difference: str
    relative: str


@dataclass(frozen=True)
class Rows:
    """The rows of a what-if: those that are always shown, and the others."""

    main: tuple[Row, ...]
    others: tuple[Row, ...]


def what_if_rows(item: WhatIf) -> Rows:
    """Return the rows of a what-if. Figures of segments are left out: the tables are about the whole."""
    whole = [difference for difference in item.differences if difference.figure.is_whole]
    return Rows(
        tuple(_row(difference) for difference in whole if difference.figure.metric in _MAIN),
        tuple(_row(difference) for difference in whole if difference.figure.metric not in _MAIN),
    )


def words_of(figure: Figure | Point) -> str:
    """Return the name of a figure with its return period or loss factor."""
    name = _WORDS.get(figure.metric) or metric_title(figure.metric)
    if figure.return_period is not None:
        return f"{name}, {years(figure.return_period)} years"
    return name if figure.loss_factor is None else f"{name} at {figure.loss_factor * 100:g} %"


def relative(difference: Difference) -> str:
    """Format a difference as a share of the base."""
    return "0.0%" if difference.amount == 0 else deviation((difference.figure.loss, difference.base_loss))


def _row(difference: Difference) -> Row:
    return Row(
        words_of(difference.figure),
        difference.figure.perspective.value,
        difference.base_loss,
        difference.figure.loss,
        signed_amount(difference.amount),
        relative(difference),
    )
