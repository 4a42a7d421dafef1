"""Exceedance curves: an interactive chart for the page, and a picture.

Altair describes the charts; vl-convert contains the JavaScript that draws them, and draws pictures without a browser.
Neither needs the network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from irp_pipeline.losses import Figure
from irp_pipeline.report.curves import DrawnCurve, shortened
from irp_pipeline.report.display import perspectives_of
from irp_pipeline.report.records import Subject, curve_figures
from irp_pipeline.vocabulary import CURVES, Metric, Perspective

COLOURS = {Perspective.GUL: "#0072B2", Perspective.IL: "#D55E00", Perspective.RI: "#009E73"}
"""The colour of each perspective; distinct for every kind of colour vision (Okabe and Ito)."""
LABELS = {
    Perspective.GUL: "GUL ground-up",
    Perspective.IL: "IL insured",
    Perspective.RI: "RI net of reinsurance",
}
"""The name of each perspective in a chart."""

CURVE_LABELS = {Metric.OEP: "OEP largest event", Metric.AEP: "AEP whole year"}
"""The name of each curve in a chart; the second is drawn dashed."""
_BAND_OPACITY = 0.13
_DIGITS = 9  # of a figure that is shown when it is pointed at
_HEIGHT = 340
_WIDTH_ALONE = 640
_PICTURE_WIDTH, _PICTURE_HEIGHT = 420, 240  # of one of its charts
_PICTURE_COLUMNS = 2
_PICTURE_CHARTS = 6
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def interactive_chart(
    subjects: Sequence[Subject], first: str, drawn: Iterable[DrawnCurve] = (), *, alone: bool = False
) -> dict[str, Any]:
    """Describe a chart of the curves of one subject, which its parameter ``subject`` selects.

    Args:
        subjects: those that have curves.
        first: name of the subject shown first.
        drawn: their whole curves. A subject without them has lines between its figures.
        alone: there is no page around it with a list of subjects and a legend, so it has its own, and a width.

    Returns:
        A Vega-Lite specification, including the data.
    """
    import altair as alt

    chosen = chosen_from("subject", "Analysis or group: ", [subject.name for subject in subjects], first, alone=alone)
    pointed_at = alt.selection_point(on="pointerover", clear="pointerout", fields=["return_period"], empty=False)
    encodings = _encodings(subjects, subjects, with_legend=alone)  # the page has its own legend, which wraps
    base = alt.Chart().transform_filter("datum.subject == subject")
    shown = base.transform_flatten(["return_period", "loss"])
    points = shown.mark_point(filled=True, opacity=1).encode(
        x=encodings["x"],
        y=encodings["y"],
        color=encodings["color"],
        size=alt.condition(pointed_at, alt.value(90), alt.value(18)),
    )
    series = [f"{perspective} {metric}" for perspective in perspectives_of(subjects) for metric in CURVES]
    of_return_period = shown.transform_pivot("series", value="loss", groupby=["return_period", "currency"])
    for name in series:  # a perspective that the chosen subject lacks has no column
        of_return_period = of_return_period.transform_calculate(
            **{f"{name} shown": f"isValid(datum['{name}']) ? format(datum['{name}'], ',.0f') : '\u2013'"}
        )
    # One tooltip for all curves, on a wide invisible line: the one of Vega-Lite's "nearest" lacks the texts.
    target = of_return_period.mark_rule(strokeWidth=28, opacity=0.001).encode(
        x=encodings["x"],
        tooltip=[
            alt.Tooltip("return_period:Q", title="Return period (years)", format=","),
            *(alt.Tooltip(f"{name} shown:N", title=name) for name in series),
            alt.Tooltip("currency:N", title="Currency"),
        ],
    )
    mark = of_return_period.mark_rule(strokeWidth=1, color="#888").encode(
        x=encodings["x"], opacity=alt.condition(pointed_at, alt.value(0.8), alt.value(0))
    )
    data = alt.InlineData(values=_curves(subjects, drawn))
    layers = (*_lines(base, encodings), points, target.add_params(pointed_at))
    chart = alt.layer(mark, *layers, data=data).add_params(chosen)
    return described(chart, _HEIGHT, alone=alone)


def chosen_from(name: str, label: str, choices: Sequence[str], first: str, *, alone: bool) -> Any:
    """Return a parameter of a chart that selects what is shown.

    Args:
        name: of the parameter.
        label: of its list.
        choices: what there is.
        first: what is shown first.
        alone: the chart has the list, rather than the page around it.
    """
    import altair as alt

    if not alone or len(choices) < 2:
        return alt.param(name=name, value=first)
    return alt.param(name=name, value=first, bind=alt.binding_select(options=[*choices], name=label))


def described(chart: Any, height: int, *, alone: bool) -> dict[str, Any]:
    """Return the specification of a chart that is as wide as its page; alone, it has a width and a ground."""
    width = _WIDTH_ALONE if alone else "container"
    ground = {"background": "white", "padding": 12} if alone else {}
    specification: dict[str, Any] = with_style(chart.properties(width=width, height=height), **ground).to_dict()
    return specification


def picture(subjects: Sequence[Subject], title: str, drawn: Iterable[DrawnCurve] = ()) -> bytes:
    """Draw the curves of several subjects side by side.

    Args:
        subjects: those that have curves; if there are more than six, only the last six (groups come last).
        title: the title above them.
        drawn: their whole curves.

    Returns:
        A PNG image.
    """
    import altair as alt
    import vl_convert as vlc

    shown = subjects[-_PICTURE_CHARTS:]
    subtitle = f"{len(shown)} of {len(subjects)} analyses and groups" if len(shown) < len(subjects) else ""
    whole = list(drawn)
    charts = [_small_chart(subject, shown, whole) for subject in shown]
    rows = alt.concat(*charts, columns=_PICTURE_COLUMNS).properties(
        title=alt.Title(title, subtitle=subtitle, anchor="start", fontSize=17, offset=14)
    )
    image: bytes = vlc.vegalite_to_png(with_style(rows, background="white", padding=18).to_dict())
    return image


def _small_chart(subject: Subject, among: Sequence[Subject], drawn: Iterable[DrawnCurve]) -> Any:
    import altair as alt

    base = alt.Chart()
    encodings = _encodings([subject], among)
    # If points were also dashed, the legend of the curves would lose its lines.
    points = (
        base.transform_flatten(["return_period", "loss"])
        .mark_point(size=22, filled=True, opacity=1)
        .encode(**{channel: encoding for channel, encoding in encodings.items() if channel != "strokeDash"})
    )
    layers = alt.layer(*_lines(base, encodings), points, data=alt.InlineData(values=_curves([subject], drawn)))
    return layers.properties(
        title=alt.Title(subject.name + (" (group)" if subject.is_group else ""), fontSize=13),
        width=_PICTURE_WIDTH,
        height=_PICTURE_HEIGHT,
    )


@cache
def javascript() -> str:
    """Return the program that draws charts in a browser: Vega, Vega-Lite and Vega-Embed, as ``vegaEmbed``."""
    import vl_convert as vlc

    program: str = vlc.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return program


def _lines(base: Any, encodings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the layers of whole curves: the band of the error of the years, and the line."""
    import altair as alt

    whole = base.transform_flatten(["years", "losses", "low", "high"])
    x, y = (encodings[channel].copy() for channel in "xy")
    x.shorthand, y.shorthand = "years:Q", "losses:Q"
    band = whole.mark_area(opacity=1, fillOpacity=_BAND_OPACITY).encode(
        x=x, y=alt.Y("low:Q"), y2="high:Q", color=encodings["color"], detail="curve:N"
    )
    return band, whole.mark_line(strokeWidth=2.2).encode(**{**encodings, "x": x, "y": y})


def _curves(subjects: Sequence[Subject], drawn: Iterable[DrawnCurve]) -> list[dict[str, Any]]:
    """Return a row for each curve: the points of its line and band, and the figures that are marked on it."""
    whole = {(curve.name, curve.perspective, curve.metric): curve for curve in drawn}
    rows = []
    for subject in subjects:
        of_curve: defaultdict[tuple[Perspective, Metric], list[Figure]] = defaultdict(list)
        for figure in curve_figures(subject):
            of_curve[figure.perspective, Metric(figure.metric)].append(figure)
        for (perspective, metric), figures in of_curve.items():
            periods = [shortened(figure.return_period or 0, _DIGITS) for figure in figures]
            losses = [shortened(figure.loss, _DIGITS) for figure in figures]
            curve = whole.get((subject.name, perspective, metric))
            rows.append(
                {
                    "subject": subject.name,
                    "perspective": LABELS[perspective],
                    "curve": CURVE_LABELS[metric],
                    "series": f"{perspective} {metric}",
                    "currency": subject.currency,
                    "return_period": periods,
                    "loss": losses,
                    "years": curve.return_periods if curve else periods,
                    "losses": curve.losses if curve else losses,
                    "low": curve.low if curve else [],
                    "high": curve.high if curve else [],
                }
            )
    return rows


def _encodings(subjects: Sequence[Subject], among: Sequence[Subject], *, with_legend: bool = True) -> dict[str, Any]:
    import altair as alt

    perspectives = perspectives_of(among)
    currencies = sorted({subject.currency for subject in subjects})
    years = sorted({float(item.return_period or 0) for subject in subjects for item in curve_figures(subject)})
    return {
        "x": alt.X("return_period:Q", title="Return period (years, log scale)")
        .scale(type="log", nice=False)
        .axis(
            values=years,
            format="~s" if years and years[-1] >= 10_000 else ",",
            labelOverlap=True,
            grid=True,
        ),
        "y": alt.Y("loss:Q", title=f"Loss ({', '.join(currencies)})").axis(format="~s", tickCount=6).scale(zero=True),
        "color": alt.Color("perspective:N", title="Perspective")
        .scale(
            domain=[LABELS[perspective] for perspective in perspectives],
            range=[COLOURS[perspective] for perspective in perspectives],
        )
        .legend(alt.Legend() if with_legend else None),
        "strokeDash": alt.StrokeDash("curve:N", title="Curve")
        .scale(domain=list(CURVE_LABELS.values()), range=[[1, 0], [6, 4]])
        .legend(alt.Legend(symbolStrokeColor="#555") if with_legend else None),
    }


def with_style(chart: Any, **config: Any) -> Any:
    """Return a chart in the style that all charts of the report have."""
    return (
        chart.configure(**{"font": _FONT, "background": "transparent", **config})
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=10,
            domain=False,
            ticks=False,
            labelPadding=6,
            gridColor="#8884",
        )
        .configure_legend(
            orient="top",
            direction="horizontal",
            titleFontWeight="normal",
            labelFontSize=12,
            titleFontSize=12,
            symbolStrokeWidth=2.5,
            symbolSize=420,
            symbolType="stroke",
            labelLimit=260,
            columns=3,
        )
    )
