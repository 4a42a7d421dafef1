"""The loss curves of two cycles in one chart, in the style of :mod:`irp_pipeline.report.charts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irp_pipeline.report.charts import COLOURS, CURVE_LABELS, LABELS, chosen_from, described
from irp_pipeline.report.comparison import ComparedPart, ComparisonSection
from irp_pipeline.vocabulary import Metric, Perspective

_HEIGHT = 320


def comparison_chart(section: ComparisonSection, first: str, *, alone: bool = False) -> dict[str, Any] | None:
    """Describe a chart of both curves of one analysis or group; two parameters choose which, and OEP or AEP.

    Args:
        section: the comparison.
        first: the analysis or group shown first.
        alone: there is no page around it with lists and a legend, so it has its own, and a width.

    Returns:
        A Vega-Lite specification, including the data; None if there are no curves.
    """
    parts = section.with_curves
    if not parts:
        return None
    import altair as alt

    perspectives = Perspective.among(figure.perspective for part in parts for figure in part.curves)
    years = sorted({float(figure.point or 0) for part in parts for figure in part.curves})
    sides = [section.before, section.after]
    legend = alt.Legend(title=None) if alone else None
    chart = (
        alt.Chart(alt.InlineData(values=_points(section, parts)))
        .transform_filter("datum.subject == subject && datum.curve == curve")
        .mark_line(strokeWidth=2.2, point={"filled": True, "size": 24})
        .encode(
            x=alt.X("years:Q", title="Return period (years, log scale)")
            .scale(type="log", nice=False)
            .axis(values=years, format="~s" if years[-1] >= 10_000 else ",", labelOverlap=True, grid=True),
            y=alt.Y("loss:Q", title="Loss").axis(format="~s", tickCount=6).scale(zero=True),
            color=alt.Color("perspective:N")
            .scale(domain=[LABELS[of] for of in perspectives], range=[COLOURS[of] for of in perspectives])
            .legend(legend),
            strokeDash=alt.StrokeDash("side:N").scale(domain=sides, range=[[6, 4], [1, 0]]).legend(legend),
            tooltip=[
                alt.Tooltip("side:N", title="Cycle"),
                alt.Tooltip("perspective:N", title="Losses"),
                alt.Tooltip("years:Q", title="Return period (years)", format=","),
                alt.Tooltip("loss:Q", title="Loss", format=",.0f"),
                alt.Tooltip("currency:N", title="Currency"),
                alt.Tooltip("note:N", title="To note"),
            ],
        )
        .add_params(
            chosen_from("subject", "Analysis or group: ", [part.name for part in parts], first, alone=alone),
            chosen_from("curve", "Curve: ", [*curve_choices(section)], Metric.OEP.value, alone=alone),
        )
    )
    return described(chart, _HEIGHT, alone=alone)


def curve_choices(section: ComparisonSection) -> dict[str, str]:
    """Return the curves that can be chosen, with their names."""
    there = {figure.metric for part in section.with_curves for figure in part.curves}
    return {metric.value: label for metric, label in CURVE_LABELS.items() if metric in there}


def _points(section: ComparisonSection, parts: Sequence[ComparedPart]) -> list[dict[str, Any]]:
    return [
        {
            "subject": part.name,
            "curve": str(figure.metric),
            "perspective": LABELS[figure.perspective],
            "side": side,
            "years": figure.point,
            "loss": loss,
            "currency": figure.currency,
            "note": figure.note,
        }
        for part in parts
        for figure in part.curves
        for side, loss in ((section.before, figure.before), (section.after, figure.after))
        if loss is not None and (figure.change is not None or side == section.after)
    ]
