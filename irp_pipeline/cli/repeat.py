"""``irp repeat``: how much sampling moves the figures of a cycle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irp_pipeline.cli import output
from irp_pipeline.cli.options import (
    AsJson,
    CycleName,
    DbSchema,
    OnlyAnalyses,
    RerunJobs,
    require_cycles,
    working_in,
)
from irp_pipeline.vocabulary import USUAL_RETURN_PERIODS, Metric

if TYPE_CHECKING:
    from irp_pipeline.helpers.repeats import Repeated
    from irp_pipeline.helpers.result import RepeatedFigure

app = typer.Typer()


@app.command(epilog="Example: irp repeat Q1-2024 --runs 9")
def repeat(
    cycle: CycleName,
    runs: Annotated[
        int,
        typer.Option("--runs", metavar="N", min=2, help="How often each analysis is run again, with other draws."),
    ] = 9,
    analysis: OnlyAnalyses = None,
    rerun: RerunJobs = False,
    db_schema: DbSchema = None,
    as_json: AsJson = False,
) -> None:
    """Run the analyses of a cycle again with other draws of damage, to see how much sampling moves each figure.

    The runs are jobs of the cycle, which takes N times as long as its analyses do. The second time, the spread is only
    shown. The report has it after the cycle's next launch.
    """
    from irp_pipeline.helpers.repeats import repeat as run_again

    with working_in(db_schema) as schema:
        require_cycles(schema, cycle)
        found = run_again(
            cycle,
            runs=runs,
            analyses=analysis,
            anew=rerun,
            tell=lambda progress: output.print_note(f"{progress} …"),
        )
    if as_json:
        output.print_json(_as_json(found, cycle, schema))
    else:
        _show(found)


def _as_json(found: Repeated, cycle: str, schema: str) -> dict[str, Any]:
    return {
        "schema": schema,
        "cycle": cycle,
        "batch_id": found.batch_id,
        "figures": [
            {
                **figure.key._asdict(),
                "is_group": figure.is_group,
                "loss": figure.loss,
                "currency": figure.currency,
                "runs": figure.runs,
                "mean": figure.mean,
                "deviation": figure.deviation,
            }
            for figure in found.figures
        ],
        "left_out": dict(found.left_out),
    }


def _show(found: Repeated) -> None:
    """Print the deviation of averages and of the usual return periods of whole portfolios."""
    whole = [figure for figure in found.figures if not figure.key.segment_by]
    output.print_table(
        ("Analysis", "Losses", "Currency", "Figure", "Loss", "Mean of runs", "Std dev of runs", "in %"), _rows(whole)
    )
    runs = max((figure.runs for figure in found.figures), default=0)
    output.say()
    output.print_note(
        f"Over {runs} runs with other draws, that of the cycle among them (batch {found.batch_id}). The standard "
        "deviation is the error of sampling of a single run; that of the years is not in it"
    )
    for name, reason in found.left_out.items():
        output.print_note(f"{name} is left out: {reason}")


def _rows(figures: Sequence[RepeatedFigure]) -> Iterator[tuple[object, ...]]:
    for figure in figures:
        key = figure.key
        if key.metric == Metric.AAL or key.return_period in USUAL_RETURN_PERIODS:
            years = "" if key.return_period is None else f" {key.return_period:g}"
            share = f"{100 * figure.deviation / figure.loss:.1f}" if figure.loss else ""
            yield (
                key.analysis_name,
                key.perspective,
                figure.currency,
                f"{key.metric}{years}",
                figure.loss,
                figure.mean,
                figure.deviation,
                share,
            )
