"""``irp compare``: two cycles side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import AsJson, CycleName, DbSchema, check_cycle, require_cycles, working_in
from irp_pipeline.vocabulary import USUAL_RETURN_PERIODS, Metric

if TYPE_CHECKING:
    import pandas as pd

    from irp_pipeline.helpers.comparison import Comparison, Side

app = typer.Typer()

_ROWS = 20
_FIGURES = 10_000


@app.command(epilog="Example: irp compare Q4-2023 Q1-2024 --by CountryCode")
def compare(
    cycle: CycleName,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="LATER",
            help="The later cycle, if CYCLE is the earlier one. Without it, CYCLE is compared with the cycle before it "
            "by exposure date.",
            callback=check_cycle,
        ),
    ] = None,
    analysis: Annotated[
        str | None, typer.Option("--analysis", metavar="NAME", help="Only this analysis or group.")
    ] = None,
    analysis_before: Annotated[
        str | None,
        typer.Option("--analysis-before", metavar="NAME", help="What it is compared with, if that has another name."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="ID", help="A batch of the later cycle other than its current one.")
    ] = None,
    batch_before: Annotated[
        int | None, typer.Option("--batch-before", metavar="ID", help="Likewise of the earlier cycle.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="FIELDS", help="Only the segments by these OED fields, such as CountryCode."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help=f"How many analyses, and segments: {_ROWS}. With --json, how many figures: {_FIGURES:,}.",
        ),
    ] = None,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Compare two cycles: exposure, what the figures come from, and figures, sorted by what moves the total.

    What besides the exposure differs is said beside each figure. The table shows the usual figures, --json all of them.
    """
    from irp_pipeline.helpers.comparison import compare as compare_sides

    with working_in(db_schema) as schema:
        require_cycles(schema, cycle, other)
        found = compare_sides(
            other or cycle,
            cycle if other else None,
            analysis=analysis,
            analysis_before=analysis_before,
            batch_id=batch,
            batch_id_before=batch_before,
            only_leading_of_segments=by is None and not as_json,
        )
    figures = found.figures
    if by is not None:
        figures = figures[figures["segment_by"] == by]
        if figures.empty:
            kinds = ", ".join(str(kind) for kind in found.figures["segment_by"].unique() if kind)
            output.print_note(f"There are no segments by {by}. There are those by: {kinds or 'none'}")
    if as_json:
        output.print_json(_as_json(found, figures, schema, limit or _FIGURES))
    else:
        _show(found, figures, limit or _ROWS)


def _as_json(found: Comparison, figures: pd.DataFrame, schema: str, limit: int) -> dict[str, Any]:
    from irp_pipeline.helpers.comparison import exposure_row, source_rows

    rows = output.records(figures.head(limit))
    for row in rows:
        row["differences"] = row["differences"].split("; ") if row["differences"] else []
    return {
        "schema": schema,
        "before": _side(found.before),
        "after": _side(found.after),
        "chosen": found.chosen,
        "exposure": [exposure_row(line) for line in found.exposure],
        "sources": source_rows(found),
        "figures": rows,
        "left_out": max(len(figures) - limit, 0),
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "cycle_name": side.cycle_name,
        "label": side.label,
        "batch_id": side.batch_id,
        "exposure_date": side.exposure_date,
    }


def _show(found: Comparison, figures: pd.DataFrame, limit: int) -> None:
    labels = (found.before.label, found.after.label)
    output.say(f"{labels[0]} → {labels[1]} ({found.chosen})")
    if found.exposure:
        output.say()
        output.print_table(("Portfolio", "Exposure", "Currency", *labels, "Change", "", "Note"), _exposure(found))
    output.say()
    if differing := list(_differing(found)):
        output.print_table(("Analysis", "Differs in", *labels), differing)
    else:
        output.say("Model, version, settings, samples, currency and basis of the losses are the same.")
    shown = figures[_is_usual(figures)]
    for is_whole, first in ((True, ("Analysis",)), (False, ("By", "Segment", "Analysis"))):
        part = shown[(shown["segment_by"] == "") == is_whole]
        if not is_whole:
            part = part[part["metric"].isin([Metric.AAL, Metric.LOSS])]
        if part.empty:
            continue
        shown_parts, left_out = _first(part, limit)
        rows = [_row(row, is_whole) for row in shown_parts.itertuples()]
        output.say()
        output.print_table((*first, "Losses", "Figure", "Currency", *labels, "Change", "", "Note"), rows)
        if left_out:
            what = "analyses and groups" if is_whole else "segments"
            output.print_note(f"… and {left_out:,} more {what}, which move the total less: --limit N")


def _first(part: pd.DataFrame, limit: int) -> tuple[pd.DataFrame, int]:
    """Return the figures of the first analyses or segments, and how many of these are left out."""
    numbers = part.groupby(["segment_by", "segment", "analysis_name"], sort=False, observed=True).ngroup()
    return part[numbers < limit], max(int(numbers.max()) + 1 - limit, 0)


def _exposure(found: Comparison) -> Iterator[tuple[object, ...]]:
    for line in found.exposure:
        yield (
            line.portfolio or "all",
            line.what.value,
            line.currency,
            *(None if amount is None else float(amount) for amount in (line.before, line.after, line.change)),
            _share(line.relative_change),
            line.not_compared,
        )


def _differing(found: Comparison) -> Iterator[tuple[str, str, str, str]]:
    for name, differences in found.differences.items():
        for item in differences:
            yield (
                name,
                item.what + (f" of {', '.join(item.analyses)}" if item.analyses else ""),
                item.before,
                item.after,
            )


def _is_usual(figures: pd.DataFrame) -> pd.Series[bool]:
    """Tell which figures the table shows: averages, usual return periods, and losses at loss factors."""
    usual: pd.Series[bool] = figures["metric"].isin([Metric.AAL, Metric.LOSS]) | (
        figures["metric"].isin([Metric.OEP, Metric.AEP]) & figures["return_period"].isin(USUAL_RETURN_PERIODS)
    )
    return usual


def _row(row: Any, is_whole: bool) -> tuple[object, ...]:
    point = next((value for value in (row.return_period, row.loss_factor) if value == value), None)  # NaN is not itself
    currencies = [word for word in (row.currency_before, row.currency_after) if isinstance(word, str)]
    note = row.not_compared if isinstance(row.not_compared, str) else row.differences
    return (
        *(() if is_whole else (row.segment_by, row.segment)),
        row.analysis_name,
        row.perspective,
        row.metric if point is None else f"{row.metric} {point:g}",
        "/".join(dict.fromkeys(currencies)),
        *(None if amount != amount else float(amount) for amount in (row.before, row.after, row.change)),
        _share(row.relative_change),
        note,
    )


def _share(share: float | None) -> str:
    return "" if share is None or share != share else f"{share:+.1%}"
