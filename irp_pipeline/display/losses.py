"""Losses and comparisons in a notebook, as tables and charts."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from irp_pipeline.display.chart import Chart
from irp_pipeline.display.errors import DisplayError
from irp_pipeline.helpers.comparison import Comparison, compare
from irp_pipeline.report import display
from irp_pipeline.report.collecting import collect_figures
from irp_pipeline.report.comparison import comparison_section
from irp_pipeline.report.records import Subject, curve_figures, main_subject
from irp_pipeline.vocabulary import CURVES, USUAL_RETURN_PERIODS, Metric

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

Format = Callable[[Any], str]

_CHANGE_COLUMNS = ("Before", "After", "Change", "Change %")


def show_losses(cycle_name: str, *, return_periods: tuple[float, ...] = USUAL_RETURN_PERIODS) -> Styler:
    """Return the losses of a cycle as a table: analyses and groups with their averages and curves.

    Args:
        cycle_name: a cycle of the current schema.
        return_periods: in years; those that no analysis has are left out.

    Returns:
        A table with a row for each analysis or group and perspective. Its ``data`` is a DataFrame with the index
        (Name, Losses, Currency), and the columns ``AAL``, ``OEP 100`` and so on, ``LOSS 1`` for losses at loss factors.

    Raises:
        DisplayError: it has no losses yet.
        ReportError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    import pandas as pd

    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    columns: dict[str, None] = {}
    for subject in _subjects(cycle_name):
        for figure in sorted(subject.figures, key=lambda one: (one.return_period or 0, one.loss_factor or 0)):
            point = figure.return_period if figure.return_period is not None else figure.loss_factor
            if figure.metric in CURVES and figure.return_period not in return_periods:
                continue
            if figure.metric not in {Metric.AAL, Metric.LOSS, *CURVES}:
                continue
            column = str(figure.metric) if point is None else f"{figure.metric} {display.years(point)}"
            columns[column] = None
            rows.setdefault((subject.name, figure.perspective, subject.currency), {})[column] = figure.loss
    usual = [str(metric) for metric in Metric]
    ordered = sorted(columns, key=lambda column: usual.index(column.partition(" ")[0]))
    index = pd.MultiIndex.from_tuples(rows, names=["Name", "Losses", "Currency"])
    frame = pd.DataFrame(rows.values(), index=index, columns=pd.Index(ordered))
    return _styled(frame, dict.fromkeys(ordered, display.amount))


def show_curves(cycle_name: str, name: str | None = None) -> Chart:
    """Return the exceedance curves of a cycle as a chart, with a list of its analyses and groups.

    Args:
        cycle_name: a cycle of the current schema.
        name: the analysis or group shown first; None means the largest group.

    Raises:
        DisplayError: it has no curves yet, or none of that name.
        ReportError: there is no such cycle.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.report.charts import interactive_chart

    subjects, curves = collect_figures(cycle_name)
    with_curves = [subject for subject in subjects if any(curve_figures(subject))]
    if not with_curves:
        raise DisplayError(f"The cycle {cycle_name} has no loss curves yet. See show_progress({cycle_name!r})")
    names = [subject.name for subject in with_curves]
    main = main_subject(with_curves)
    first = _one_of(name, names, main.name if main else names[-1], cycle_name)
    specification = interactive_chart(with_curves, first, curves.drawn, alone=True)
    return Chart(specification, f"Loss curves of {', '.join(names)} in {cycle_name}")


def show_comparison(cycle_name: str, before: str | None = None) -> Styler:
    """Return what changed since another cycle as a table: the usual figures, sorted by what moves the total.

    Args:
        cycle_name: the later cycle, of the current schema.
        before: the earlier cycle; None means the one before by exposure date.

    Returns:
        A table with a row for each usual figure of analyses and groups. Its ``data`` is a DataFrame with the index
        (Name, Losses, Figure, Currency) and the columns Before, After, Change, Change % and Note: what besides the
        exposure differs, or why there is no change. :func:`irp_pipeline.helpers.comparison.compare_cycles` has all
        figures.

    Raises:
        ComparisonError: there is no such cycle, or none to compare with, or no figures are saved.
        DatabaseError: the database refuses or is away.
    """
    import pandas as pd

    found = compare(cycle_name, before)
    rows: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for part in comparison_section(found).parts:
        for figure in part.figures:
            if figure.metric in CURVES and figure.point not in USUAL_RETURN_PERIODS:
                continue
            if figure.metric not in {Metric.AAL, Metric.LOSS, *CURVES}:
                continue
            named = figure.metric if figure.point is None else f"{figure.metric} {display.years(figure.point)}"
            values = (figure.before, figure.after, figure.change, figure.share, figure.note)
            rows[part.name, figure.perspective, named, figure.currency] = dict(
                zip((*_CHANGE_COLUMNS, "Note"), values, strict=True)
            )
    index = pd.MultiIndex.from_tuples(rows, names=["Name", "Losses", "Figure", "Currency"])
    frame = pd.DataFrame(rows.values(), index=index, columns=pd.Index([*_CHANGE_COLUMNS, "Note"]))
    frame = frame.astype(dict.fromkeys(_CHANGE_COLUMNS, "float64"))
    formats: dict[str, Format] = {
        "Before": display.amount,
        "After": display.amount,
        "Change": display.signed_amount,
        "Change %": display.percentage,
    }
    table = _styled(frame, formats).set_caption(escape(_sides(found)))
    table = table.set_properties(subset=["Note"], **{"text-align": "left"})
    # A note is shown once for the figures of an analysis that all have it; each row of the data has its own.
    names, notes = frame.index.get_level_values("Name"), frame["Note"]
    said_above = (notes == notes.shift()) & (names == pd.Series(names, frame.index).shift())
    return table.format("", subset=(said_above[said_above].index, ["Note"])) if said_above.any() else table


def show_compared_curves(cycle_name: str, before: str | None = None, name: str | None = None) -> Chart:
    """Return the exceedance curves of two cycles in one chart, with lists of analyses and groups, and of curves.

    Args:
        cycle_name: the later cycle, of the current schema.
        before: the earlier cycle; None means the one before by exposure date.
        name: the analysis or group shown first; None means the one that moves the total most.

    Raises:
        DisplayError: neither has curves, or none has that name.
        ComparisonError: there is no such cycle, or none to compare with, or no figures are saved.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.report.comparison_chart import comparison_chart

    found = compare(cycle_name, before)
    section = comparison_section(found, name)
    names = [part.name for part in section.with_curves]
    first = _one_of(name, names, names[0] if names else "", cycle_name)
    specification = comparison_chart(section, first, alone=True)
    if specification is None:
        raise DisplayError(f"The cycles {section.before} and {section.after} have no loss curves")
    return Chart(specification, f"Loss curves of {', '.join(names)}: {_sides(found)}")


def _subjects(cycle_name: str) -> tuple[Subject, ...]:
    subjects, _ = collect_figures(cycle_name)
    if not subjects:
        raise DisplayError(f"The cycle {cycle_name} has no losses yet. See show_progress({cycle_name!r})")
    return subjects


def _one_of(name: str | None, names: list[str], otherwise: str, cycle_name: str) -> str:
    if name is not None and name not in names:
        raise DisplayError(
            f"{cycle_name} has no loss curves of {name!r}. It has those of: {', '.join(names) or 'none'}"
        )
    return name or otherwise


def _sides(found: Comparison) -> str:
    return f"{found.before.label} → {found.after.label} ({found.chosen})"


def _styled(frame: pd.DataFrame, formats: dict[str, Format]) -> Styler:
    """Return a table whose values are formatted as in the report, and escaped."""
    return frame.style.format({**formats}, na_rep=display.NOTHING, escape="html").format_index(escape="html", axis=0)
