"""Declared metrics: the figures that distributions add to those of a risk engine.

Here: reading the period losses of a job for them. Not here: what a metric is (:mod:`irp_pipeline.losses.metrics`), and
the metrics of groups, which are computed with their other figures.
"""

from __future__ import annotations

from irp_pipeline.helpers.result.curves import CurveFiles
from irp_pipeline.helpers.result.finished import JobResult, existing_file
from irp_pipeline.losses import (
    DECLARED_METRICS,
    Figure,
    LossError,
    SampledYears,
    declared_figures,
    period_losses,
)
from irp_pipeline.vocabulary import Perspective


def faulty_metrics() -> list[str]:
    """Return the reasons why declared metrics cannot be used."""
    return [fault.message for fault in DECLARED_METRICS.faults()]


def declared_figures_of(job: JobResult, curves: CurveFiles | None = None) -> list[Figure]:
    """Compute the declared metrics of an analysis; none if it does not keep its period losses.

    Args:
        job: its job.
        curves: where its whole curves are kept, from the same reading of its period losses.

    Raises:
        ResultError: a file has changed since the job wrote it.
        LossError: a metric cannot be computed; the message names the analysis.
    """
    is_declared = bool(DECLARED_METRICS.declared())
    if not is_declared and curves is None:
        return []
    found: list[Figure] = []
    reported = {figure.metric for figure in job.figures}
    asked = job.analysis.get("return_periods") or ()
    for perspective in Perspective:
        name = f"{perspective.lower()}_plt_sample"
        if name not in job.files:
            continue
        try:
            years = _sampled_years(job, name)
            found += declared_figures(perspective, years, asked, leave_out=reported)
        except LossError as error:
            if is_declared:
                raise LossError(f"The declared metrics of the analysis {job.name}, {perspective}: {error}") from error
            if curves is not None:
                curves.leave_out(job.name, perspective, str(error))
        else:
            if curves is not None:
                shown = {figure.return_period for figure in job.figures if figure.return_period is not None}
                curves.keep(job.name, [job], shown)(perspective, years)
    return found


def _sampled_years(job: JobResult, name: str) -> SampledYears:
    try:
        periods, samples = int(job.provenance["periods"]), int(job.provenance["samples"])
    except (KeyError, TypeError, ValueError) as error:
        raise LossError(f"its job does not say over which years its losses are ({error})") from error
    return SampledYears(period_losses(existing_file(job, name), periods=periods), periods, samples)
