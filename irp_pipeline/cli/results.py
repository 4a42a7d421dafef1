"""``irp results``: the losses of a cycle as figures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, find_cycle, schema_option, working_in

app = typer.Typer()

_PERSPECTIVES = ("GUL", "IL", "RI")
_USUAL_RETURN_PERIODS = (10, 100, 200, 500)
"""Years; those that most people ask for first."""
_MOST_COLUMNS = 4


@app.command(epilog="Example: irp results Q1-2024 --json")
def results(cycle: CycleName, db_schema: DbSchema = None, as_json: AsJson = False) -> None:
    """Show the losses of each analysis and group, as they were recorded last.

    With --json all figures; the table shows the usual ones, and irp report draws the curves.
    """
    from irp_pipeline.helpers.batch import current_batch
    from irp_pipeline.helpers.result import analyses_by_means, get_results

    with working_in(db_schema) as schema:
        batch = current_batch(find_cycle(cycle, schema)["id"])
        figures = output.records(get_results(batch["id"])) if batch is not None else []
        by_means = analyses_by_means(batch["id"]) if batch is not None else set()
    figures = [figure | {"losses_by": _losses_by(figure, by_means)} for figure in figures]
    if as_json:
        output.print_json({"schema": schema, "cycle_name": cycle, "figures": figures})
        return
    if not figures:
        output.print_note(f"Cycle {cycle} has no results yet. To see where it stands: irp status {cycle} "
                          f"{schema_option(schema)}")  # fmt: skip
        return
    curves = _curves(figures)
    stochastic = list(_stochastic(figures, curves))
    if stochastic:
        titles = (f"{metric} {years:g}" for metric, years in curves)
        output.print_table(("Analysis", "Losses", "Currency", "AAL", "Std dev", *titles), stochastic)
    deterministic = list(_deterministic(figures))
    if deterministic:
        output.print_table(("Analysis", "Losses", "Currency", "Loss factor", "Loss"), deterministic)
    others = list(_declared(figures))
    if others:
        output.print_table(("Analysis", "Losses", "Currency", "Metric", "Return period", "Loss"), others)
    if by_means:
        output.print_note("by means: without samples; IL and RI apply the terms to mean losses")


def _losses_by(figure: Mapping[str, Any], by_means: Collection[str]) -> str | None:
    """What a figure is made of: samples or means of losses. A deterministic one is made of neither."""
    if figure["metric"] == "LOSS":
        return None
    return "means" if figure["analysis_name"] in by_means and not figure["is_group"] else "samples"


def _curves(figures: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """The points of the curves to show: the usual return periods as far as there are any, else some of those there are.

    Returns:
        Metric and return period in years: a few of OEP, and the second largest of them of AEP.
    """
    recorded = sorted({figure["return_period"] for figure in figures if figure["metric"] == "OEP"})
    shown = [years for years in recorded if years in _USUAL_RETURN_PERIODS]
    if len(shown) < min(_MOST_COLUMNS, len(recorded)):
        step = max(1, -(-len(recorded) // _MOST_COLUMNS))
        shown = sorted(recorded[::-1][::step])
    return [*(("OEP", years) for years in shown), *(("AEP", years) for years in shown[-2:-1] or shown)]


def _stochastic(figures: Iterable[dict[str, Any]], curves: Sequence[tuple[str, float]]) -> Iterator[tuple[object, ...]]:
    for key, losses in _by_row(figures).items():
        if ("AAL", None) not in losses:
            continue
        columns: list[tuple[str, float | None]] = [("AAL", None), ("STD_DEV", None), *curves]
        yield (*key, *(losses.get(column) for column in columns))


def _deterministic(figures: Iterable[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for key, losses in _by_row(figures).items():
        for (metric, factor), loss in sorted(losses.items(), key=str):
            if metric == "LOSS":
                yield (*key, f"{factor:g}", loss)


def _declared(figures: Iterable[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    """The metrics that distributions declare."""
    from irp_pipeline.losses import DECLARED_METRICS, METRICS

    declared = DECLARED_METRICS.declared()
    for key, losses in _by_row(figures).items():
        for (metric, years), loss in sorted(losses.items(), key=lambda item: (item[0][0], item[0][1] or 0)):
            if metric not in METRICS:
                title = declared[metric].title if metric in declared else metric
                yield (*key, title, "" if years is None else f"{years:g}", loss)


def _by_row(figures: Iterable[dict[str, Any]]) -> dict[tuple[str, str, str], dict[tuple[str, float | None], float]]:
    """Losses by metric and return period or loss factor, for each analysis and perspective, groups last."""
    rows: dict[tuple[str, str, str], dict[tuple[str, float | None], float]] = {}
    order = sorted(figures, key=lambda f: (f["is_group"], f["analysis_name"], _PERSPECTIVES.index(f["perspective"])))
    for figure in order:
        losses = figure["perspective"] + (" by means" if figure["losses_by"] == "means" else "")
        key = (figure["analysis_name"], losses, figure["currency"])
        of = figure["return_period"] if figure["return_period"] is not None else figure["loss_factor"]
        rows.setdefault(key, {})[figure["metric"], of] = figure["loss"]
    return rows
