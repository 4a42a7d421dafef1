"""``irp attribute``: why losses changed from one cycle to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import (
    AsJson,
    CycleName,
    DbSchema,
    OnlyAnalyses,
    RerunJobs,
    check_cycle,
    require_cycles,
    working_in,
)
from irp_pipeline.vocabulary import USUAL_RETURN_PERIODS

if TYPE_CHECKING:
    from irp_pipeline.helpers.attribution import Attributed, Factor, Part

app = typer.Typer()


def _order(text: str | None) -> tuple[Factor, ...] | None:
    from irp_pipeline.helpers.attribution import AttributionError, order_of

    try:
        return None if text is None else order_of(text)
    except AttributionError as error:
        raise typer.BadParameter(str(error)) from error


@app.command(epilog="Example: irp attribute Q4-2023 Q1-2024 --order terms,exposure")
def attribute(
    cycle: CycleName,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="LATER",
            help="The later cycle, if CYCLE is the earlier one. Without it, the change from the cycle before CYCLE by "
            "exposure date is attributed.",
            callback=check_cycle,
        ),
    ] = None,
    analysis: OnlyAnalyses = None,
    order: Annotated[
        str | None,
        typer.Option(
            "--order",
            metavar="FACTORS",
            help="The order in which they change: exposure,terms,model,settings. Those that are not named follow.",
        ),
    ] = None,
    return_period: Annotated[
        list[float] | None,
        typer.Option(
            "--return-period",
            metavar="YEARS",
            min=0,
            help="Show this return period, which both workbooks have; may be repeated. Usually 100 and 250. With "
            "--json all of them are shown.",
        ),
    ] = None,
    rerun: RerunJobs = False,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Split the change of losses between two cycles by engine, exposure, financial terms, model and settings.

    What lies between the cycles is run as jobs of the later cycle, which takes as long as they take. The second time,
    the parts are only shown.
    """
    from irp_pipeline.helpers.attribution import USUAL_ORDER
    from irp_pipeline.helpers.attribution import attribute as attribute_change

    chosen_order = _order(order) or USUAL_ORDER
    with working_in(db_schema) as schema:
        require_cycles(schema, cycle, other)
        found = attribute_change(
            other or cycle,
            cycle if other else None,
            order=chosen_order,
            analyses=analysis,
            anew=rerun,
            tell=lambda progress: output.print_note(f"{progress} …"),
        )
    if as_json:
        output.print_json(_as_json(found, schema))
    else:
        show_parts(found, return_period or USUAL_RETURN_PERIODS)


def _as_json(found: Attributed, schema: str) -> dict[str, Any]:
    return {
        "schema": schema,
        "earlier_cycle": found.earlier.cycle_name,
        "later_cycle": found.later.cycle_name,
        "chosen": found.chosen,
        "order": list(found.order),
        "batch_id": found.attribution.batch_id,
        "computed_ts": found.attribution.computed_ts,
        "parts": [
            {
                "analysis_name": part.analysis_name,
                "is_group": part.is_group,
                **part.point._asdict(),
                "currency": part.currency,
                "factor": part.factor,
                "before": part.before,
                "after": part.after,
                "change": part.change,
                "sampling_error": part.sampling_error,
                "sampling_error_unknown": part.sampling_error_unknown,
                "remark": part.remark,
            }
            for part in found.attribution.parts
        ],
        "left_out": dict(found.left_out),
    }


def show_parts(
    found: Attributed, return_periods: Sequence[float] = USUAL_RETURN_PERIODS, only: str | None = None
) -> None:
    """Print the parts as a table, and what changed in words.

    Args:
        found: the attribution.
        return_periods: those to show, in years.
        only: only this analysis or group.
    """
    from irp_pipeline.helpers.attribution.paths import paths_of

    parts = [part for part in found.attribution.parts if only in {None, part.analysis_name}]
    paths = [path for path in paths_of(parts) if _is_shown(path, return_periods)]
    output.say(f"{found.earlier.cycle_name} → {found.later.cycle_name} ({found.chosen})")
    factors = [
        factor
        for place, factor in enumerate(part.factor for part in (paths[0] if paths else ()))
        if place == 0 or factor in found.order or any(path[place].change for path in paths)
    ]
    output.say()
    output.print_table(
        ("Analysis", "Losses", "Figure", "Currency", found.earlier.cycle_name, *factors, found.later.cycle_name),
        (_row(path, factors) for path in paths),
    )
    changes = dict.fromkeys((part.analysis_name, part.factor, part.remark) for path in paths for part in path)
    if rows := [change for change in changes if change[2]]:
        output.say()
        output.print_table(("Analysis", "Factor", "What changed"), rows)
    output.say()
    output.print_note(
        "± is one standard error of sampling, an upper estimate; it is no part of the sum. The jobs are batch "
        f"{found.attribution.batch_id}; computed {output.local_time(found.attribution.computed_ts)}"
    )
    for name, reason in found.left_out.items():
        output.print_note(f"{name} is left out: {reason}")
    there = {part.point.return_period for part in found.attribution.parts}
    missing = [years for years in return_periods if years not in there]
    if missing and tuple(return_periods) != USUAL_RETURN_PERIODS:
        listed = ", ".join(f"{years:g}" for years in missing)
        output.print_note(f"No figure of both cycles at {listed} years: add it to return_periods in both workbooks")


def _is_shown(path: Sequence[Part], return_periods: Sequence[float]) -> bool:
    years = path[0].point.return_period
    return years is None or years in return_periods


def _row(path: Sequence[Part], factors: Sequence[Factor]) -> tuple[object, ...]:
    point = path[0].point
    at = next((value for value in (point.return_period, point.loss_factor) if value is not None), None)
    return (
        path[0].analysis_name,
        point.perspective,
        point.metric if at is None else f"{point.metric} {at:g}",
        path[0].currency,
        path[0].before,
        *(_change(part) for part in path if part.factor in factors),
        path[-1].after,
    )


def _change(part: Part) -> str:
    if part.change == 0:
        return "0"
    error = "" if part.sampling_error is None else f" ± {part.sampling_error:,.0f}"
    amount = round(part.change)
    return f"{amount:+,}{error}" if amount else f"0{error}"
