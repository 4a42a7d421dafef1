"""The spread of figures over runs with other draws: the standard deviation of each.

Nothing but the draws may differ between the runs. Where an analysis was run with other draws and the loss by means
differs, which has no draws, or where no figure differs, it is left out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from irp_pipeline.helpers.repeats.planning import Plan
from irp_pipeline.helpers.reruns import runs_of
from irp_pipeline.helpers.result import (
    JobResult,
    RecordedFigure,
    RepeatedFigure,
    SureOf,
    figure_key,
    get_results,
    recorded_figures,
)
from irp_pipeline.helpers.result.finished import require_batch
from irp_pipeline.helpers.result.groups import group_figures
from irp_pipeline.helpers.result.uncertainty import mean_of
from irp_pipeline.losses import Figure, LossError
from irp_pipeline.vocabulary import Metric

_SINGLE_PRECISION = 1e-5
"""How far sums of the kernel may differ that are the same."""


def spread_of(plan: Plan, batch_id: int, tell: Callable[[str], None]) -> tuple[list[RepeatedFigure], dict[str, str]]:
    """Compute the spread of the saved figures of analyses, and of the groups whose members were all run again.

    Args:
        plan: what was run.
        batch_id: the batch that ran it, COMPLETED.
        tell: called with the progress, in words.

    Returns:
        The spread of each figure; and why analyses or groups are left out, by name.

    Raises:
        RerunError: the batch has not run all jobs.
        ResultError: the result of a job cannot be read or has changed.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.workbook import Workbook

    runs = runs_of(batch_id, (name for of in plan.analyses.values() for name in of.jobs))
    saved: dict[str, list[RecordedFigure]] = {}
    for found in recorded_figures(get_results(plan.batch_id, segments=True)):
        saved.setdefault(found.analysis_name, []).append(found)
    spread: list[RepeatedFigure] = []
    left_out = dict(plan.refused)
    repeated: dict[str, list[JobResult]] = {}
    for name, analysis in plan.analyses.items():
        jobs = [runs[of].job for of in analysis.jobs]
        if (reason := _not_only_draws(analysis.recorded.job, jobs)) is not None:
            left_out[name] = reason
            continue
        repeated[name] = jobs
        spread += _spread(saved.get(name, ()), [job.figures for job in jobs])
    workbook = Workbook.from_json(require_batch(plan.batch_id).configuration_data)
    for grouping in workbook.groupings_in_order():
        members = list(dict.fromkeys(analysis.name for analysis in workbook.analyses_in(grouping.name)))
        if lacking := [member for member in members if member not in repeated]:
            left_out[grouping.name] = f"of its members, these were not run again: {', '.join(lacking)}"
            continue
        tell(f"adding up {grouping.name}")
        try:
            of_runs = [
                group_figures(grouping, of_run) for of_run in zip(*(repeated[of] for of in members), strict=True)
            ]
        except LossError as error:
            left_out[grouping.name] = str(error)
            continue
        spread += _spread(saved.get(grouping.name, ()), of_runs)
    return spread, left_out


def _not_only_draws(recorded: JobResult, jobs: Sequence[JobResult]) -> str | None:
    """Say why the runs of an analysis do not differ by draws alone; None if they do."""
    without_draws = [mean for job in (recorded, *jobs) if (mean := mean_of(job)) is not None]
    if without_draws and not all(
        math.isclose(mean, without_draws[0], rel_tol=_SINGLE_PRECISION) for mean in without_draws
    ):
        return (
            "its losses depend on the numbers of locations by more than draws: the ground-up AAL of mean losses is "
            f"{min(without_draws):,.0f} to {max(without_draws):,.0f}"
        )
    first = _amounts(recorded.figures)
    if any(first.values()) and all(_amounts(job.figures) == first for job in jobs):
        return "other location numbers did not change its draws: its model draws by other fields"
    return None


def _amounts(figures: Iterable[Figure]) -> Mapping[tuple[object, ...], float]:
    return {(of.perspective, of.metric, of.return_period): of.loss for of in figures if of.is_whole}


def _spread(saved: Iterable[RecordedFigure], of_runs: Iterable[Iterable[Figure]]) -> Iterable[RepeatedFigure]:
    """Yield the spread of the saved figures that all runs have."""
    by_run = [{_place(figure): figure.loss for figure in figures} for figures in of_runs]
    for found in saved:
        place = _place(found.figure)
        if found.figure.metric == Metric.LOSS or not all(place in figures for figures in by_run):
            continue
        losses = [found.figure.loss, *(figures[place] for figures in by_run)]
        yield RepeatedFigure(
            key=figure_key(found),
            is_group=found.is_group,
            loss=found.figure.loss,
            currency=found.currency,
            runs=len(losses),
            mean=statistics.fmean(losses),
            deviation=statistics.stdev(losses),
        )


def _place(figure: Figure) -> SureOf:
    return SureOf("", figure.perspective, figure.metric, figure.return_period, figure.segment_by, figure.segment)
