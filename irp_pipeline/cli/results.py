"""``irp results``: the losses of a cycle as figures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.failures import CommandError
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, schema_option, working_in
from irp_pipeline.cli.what_ifs import show_what_ifs
from irp_pipeline.errors import IrpError
from irp_pipeline.losses.segments import joined
from irp_pipeline.vocabulary import Metric, Perspective

if TYPE_CHECKING:
    from irp_pipeline.helpers.result import RecordedFigure
    from irp_pipeline.losses import Figure

    Point = tuple[str, float | None]
    """A metric, with the return period or the loss factor that belongs to it."""
    Rows = dict[tuple[str, ...], dict[Point, float]]
    """The losses of each analysis, segment (if there are segments) and perspective, in a currency."""

app = typer.Typer()

_USUAL_RETURN_PERIODS = (10, 100, 200, 500)
"""Years: the most common return periods."""
_MOST_COLUMNS = 4


By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="FIELDS",
        help="Show segments by these OED fields, such as CountryCode+OccupancyCode, instead of whole portfolios. The "
        "column segments of the workbook asks for them.",
    ),
]


@app.command(epilog="Example: irp results Q1-2024 --by CountryCode --json")
def results(cycle: CycleName, by: By = None, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show the losses of each analysis and group, as last recorded.

    The table shows the usual figures, --json all of them and how sure they are; irp report draws the curves.
    """
    from irp_pipeline.helpers.batch import find_current_batch
    from irp_pipeline.helpers.result import analyses_by_means, get_results, recorded_figures, what_ifs_of
    from irp_pipeline.helpers.sign_off import find_sign_off

    with working_in(db_schema) as schema:
        found = find_cycle(cycle, schema)
        batch, sign_off = find_current_batch(found.id), find_sign_off(found.id)
        fields = _fields(by, cycle, batch.id) if by is not None and batch is not None else None
        saved = get_results(batch.id, by=fields) if batch is not None else None
        by_means = analyses_by_means(batch.id) if batch is not None else set()
        figures = [] if saved is None else recorded_figures(saved)
        beyond = _beyond(batch.id) if batch is not None else {}
        sure = _how_sure(cycle, figures) if as_json else []
        what_ifs = what_ifs_of(batch.id, _by_name(figures)) if batch is not None else ()
    if as_json:
        rows = [] if saved is None else output.records(saved)
        described = [
            row | {"losses_by": _losses_by(figure, by_means)} | uncertainty
            for row, figure, uncertainty in zip(rows, figures, sure, strict=True)
        ]
        answer = {"schema": schema, "cycle_name": cycle, "figures": described, "return_periods_left_out": beyond,
                  "what_ifs": [item.content() for item in what_ifs], "sign_off": sign_off.content()}  # fmt: skip
        output.print_json(answer)
        return
    if not figures:
        output.print_note(f"Cycle {cycle} has no results yet. To see its progress: irp status {cycle} "
                          f"{schema_option(schema)}")  # fmt: skip
        return
    _print_tables(figures, by_means, None if fields is None else joined(fields))
    if fields is None:
        show_what_ifs(what_ifs, {years for _, years in _curves(figures)})
    for name, reason in beyond.items():
        output.print_note(f"{name}: {reason}")
    if sign_off.decision is not None:
        output.print_note(f"Sign-off: {sign_off}")


def _fields(by: str, cycle: str, batch_id: int) -> tuple[str, ...]:
    """Return the combination of OED fields that somebody names, as it is recorded."""
    from irp_pipeline.exposure.segment_fields import fields_of
    from irp_pipeline.helpers.result import segment_fields

    known = segment_fields(batch_id)
    wanted = {name.casefold() for name in fields_of(by)}
    for fields in known:
        if {name.casefold() for name in fields} == wanted:
            return fields
    if not known:
        raise CommandError(
            f"Cycle {cycle} has no segments. Name OED fields in the column segments of the sheet Analyses, and run the "
            "cycle again"
        )
    raise CommandError(f"Cycle {cycle} has no segments by {by}. There are those by {', '.join(map(joined, known))}")


def _print_tables(figures: Sequence[RecordedFigure], by_means: Collection[str], segment_title: str | None) -> None:
    rows = _by_row(figures, by_means)
    first = ("Analysis", *([] if segment_title is None else [segment_title]), "Losses", "Currency")
    curves = _curves(figures)
    stochastic = list(_stochastic(rows, curves))
    if stochastic:
        titles = (f"{metric} {years:g}" for metric, years in curves)
        output.print_table((*first, "AAL", "Std dev", *titles), stochastic)
    deterministic = list(_deterministic(rows))
    if deterministic:
        output.print_table((*first, "Loss factor", "Loss"), deterministic)
    others = list(_declared(rows))
    if others:
        output.print_table((*first, "Metric", "Return period", "Loss"), others)
    if by_means:
        output.print_note("by means: without samples; IL and RI apply the terms to mean losses")
    if segment_title is not None and any(found.figure.perspective is not Perspective.GUL for found in figures):
        output.print_note("IL and RI of a segment are its share of the losses under the terms of the whole portfolio")


def _beyond(batch_id: int) -> dict[str, str]:
    """Return of each analysis and group which return periods have no figure, and why."""
    from irp_pipeline.helpers.result import return_periods_left_out

    try:
        return return_periods_left_out(batch_id)
    except IrpError as error:  # such as an engine that is not installed here: the saved figures are shown all the same
        output.print_note(str(error))
        return {}


def _how_sure(cycle: str, figures: Sequence[RecordedFigure]) -> list[dict[str, Any]]:
    """Return how sure each figure is; every value is None if that is not recorded, or its file not on this machine."""
    from irp_pipeline.helpers.artefact import ArtefactError
    from irp_pipeline.helpers.result import Uncertainty, figure_key, recorded_uncertainty

    try:
        known = recorded_uncertainty(cycle, figures)
    except ArtefactError as error:
        output.print_note(f"How sure the figures are cannot be told: {error}")
        known = {}
    return [asdict(known.get(figure_key(figure), Uncertainty())) for figure in figures]


def _by_name(figures: Iterable[RecordedFigure]) -> dict[str, tuple[str, list[Figure]]]:
    """Return currency and figures of each analysis."""
    found: dict[str, tuple[str, list[Figure]]] = {}
    for item in figures:
        found.setdefault(item.analysis_name, (item.currency, []))[1].append(item.figure)
    return found


def _losses_by(found: RecordedFigure, by_means: Collection[str]) -> str | None:
    """Return the basis of a figure: samples or mean losses. A deterministic figure has neither."""
    if found.figure.metric is Metric.LOSS:
        return None
    return "means" if found.analysis_name in by_means and not found.is_group else "samples"


def _curves(figures: Iterable[RecordedFigure]) -> list[tuple[Metric, float]]:
    """Return the points of the curves to show: the usual return periods, or some others if there are none of these.

    Returns:
        Metric and return period in years: a few of OEP, and the second largest of them of AEP.
    """
    of_events = (found.figure.return_period for found in figures if found.figure.metric is Metric.OEP)
    recorded = sorted({years for years in of_events if years is not None})
    shown = [years for years in recorded if years in _USUAL_RETURN_PERIODS]
    if len(shown) < min(_MOST_COLUMNS, len(recorded)):
        step = max(1, -(-len(recorded) // _MOST_COLUMNS))
        shown = sorted(recorded[::-1][::step])
    return [*((Metric.OEP, years) for years in shown), *((Metric.AEP, years) for years in shown[-2:-1] or shown)]


def _stochastic(rows: Rows, curves: Sequence[tuple[Metric, float]]) -> Iterator[tuple[object, ...]]:
    columns: list[Point] = [(Metric.AAL, None), (Metric.STD_DEV, None), *curves]
    for key, losses in rows.items():
        if (Metric.AAL, None) in losses:
            yield (*key, *(losses.get(column) for column in columns))


def _deterministic(rows: Rows) -> Iterator[tuple[object, ...]]:
    for key, losses in rows.items():
        at_factors = ((factor, loss) for (metric, factor), loss in losses.items() if metric is Metric.LOSS)
        yield from ((*key, f"{factor:g}", loss) for factor, loss in sorted(at_factors))


def _declared(rows: Rows) -> Iterator[tuple[object, ...]]:
    """Yield the rows of metrics that distributions declare."""
    from irp_pipeline.losses import DECLARED_METRICS

    declared = DECLARED_METRICS.declared()
    for key, losses in rows.items():
        for (metric, years), loss in sorted(losses.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
            if metric not in set(Metric):
                title = declared[metric].title if metric in declared else metric
                yield (*key, title, "" if years is None else f"{years:g}", loss)


def _by_row(figures: Iterable[RecordedFigure], by_means: Collection[str]) -> Rows:
    """Return losses by metric and return period or loss factor, for each row, groups last."""
    rows: Rows = {}
    rank = {perspective: number for number, perspective in enumerate(Perspective)}

    def place(found: RecordedFigure) -> tuple[bool, str, tuple[str, ...], int]:
        return found.is_group, found.analysis_name, found.figure.segment, rank[found.figure.perspective]

    for found in sorted(figures, key=place):
        figure = found.figure
        losses = figure.perspective + (" by means" if _losses_by(found, by_means) == "means" else "")
        point = figure.metric, figure.return_period if figure.return_period is not None else figure.loss_factor
        segment = () if figure.is_whole else (joined(figure.segment),)
        rows.setdefault((found.analysis_name, *segment, losses, found.currency), {})[point] = figure.loss
    return rows
