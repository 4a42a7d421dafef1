"""Exceedance curves of an analysis or a group as a drawing in the page, without scripts. Pure.

The report has the interactive chart, with the whole curves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from irp_pipeline.pages.figures import Subject
from irp_pipeline.vocabulary import CURVES, Metric, Perspective

WIDTH: Final = 720
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 28, 14, 42
_STEPS_OF_LOSS: Final = 4
_WIDTH_OF_LABEL: Final = 44
_UNITS: Final = ((1e12, "T"), (1e9, "bn"), (1e6, "m"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its perspective and metric, and its points as an SVG path has them and one by one, in pixels."""

    perspective: Perspective
    metric: Metric
    path: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of an axis: where, in pixels, and what it says."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """The curves of one subject, drawn in :data:`WIDTH` by :data:`HEIGHT` pixels."""

    lines: tuple[Line, ...]
    years: tuple[Tick, ...]
    losses: tuple[Tick, ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def draw(subject: Subject) -> Drawing | None:
    """Draw losses over return periods, which are on a logarithmic scale; None if there are fewer than two points."""
    of_curve: dict[tuple[Perspective, Metric], list[tuple[float, float]]] = {}
    for figure in subject.figures:
        if figure.metric in CURVES and figure.return_period and math.isfinite(figure.loss):
            of_curve.setdefault((figure.perspective, Metric(figure.metric)), []).append(
                (figure.return_period, figure.loss)
            )
    periods = sorted({period for points in of_curve.values() for period, _ in points})
    if len(periods) < 2:
        return None
    step = _round_step(max(loss for points in of_curve.values() for _, loss in points))
    top = step * _STEPS_OF_LOSS
    first, span = math.log(periods[0]), math.log(periods[-1]) - math.log(periods[0])

    def across(period: float) -> float:
        return round(_LEFT + (math.log(period) - first) / span * (WIDTH - _LEFT - _RIGHT), 1)

    def down(loss: float) -> float:
        return round(HEIGHT - _BOTTOM - loss / top * (HEIGHT - _TOP - _BOTTOM), 1)

    lines = []
    for (perspective, metric), points in sorted(of_curve.items()):
        drawn = tuple((across(period), down(loss)) for period, loss in sorted(points))
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in drawn)
        lines.append(Line(perspective, metric, path, drawn))
    losses = tuple(Tick(down(step * number), in_units(step * number)) for number in range(_STEPS_OF_LOSS + 1))
    return Drawing(tuple(lines), tuple(_apart(Tick(across(period), f"{period:,.10g}") for period in periods)), losses)


def in_units(value: float) -> str:
    """Write an amount briefly, such as ``1.5m``."""
    for unit, sign in _UNITS:
        if abs(value) >= unit:
            return f"{value / unit:g}{sign}"
    return f"{value:g}"


def _round_step(largest: float) -> float:
    """Return a round number that is at least a part of the largest loss."""
    wanted = largest / _STEPS_OF_LOSS if largest > 0 else 1.0
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(
        float(f"{factor * power:.6g}") for factor in (1, 2, 2.5, 5, 10) if factor * power >= wanted * (1 - 1e-9)
    )


def _apart(ticks: Iterable[Tick]) -> Iterable[Tick]:
    """Leave out labels that would touch the one before."""
    last = -math.inf
    for tick in ticks:
        if tick.at - last >= _WIDTH_OF_LABEL:
            last = tick.at
            yield tick
