"""Declared metrics: the figures that distributions add to those of a risk engine.

Here: reading the period losses of a job for them. Not here: what a metric is (:mod:`irp_pipeline.losses.metrics`), and
the metrics of groups, which are computed with their other figures.
"""

from __future__ import annotations

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


def declared_figures_of(job: JobResult) -> list[Figure]:
    """Compute the declared metrics of an analysis; none if it does not keep its period losses.

    Raises:
        ResultError: a file has changed since the job wrote it.
        LossError: a metric cannot be computed; the message names the analysis.
    """
    if not DECLARED_METRICS.declared():
        return []
    found: list[Figure] = []
    reported = {figure.metric for figure in job.figures}
    for perspective in Perspective:
        name = f"{perspective.lower()}_plt_sample"
        if name not in job.files:
            continue
        try:
            periods, samples = int(job.provenance["periods"]), int(job.provenance["samples"])
            years = SampledYears(period_losses(existing_file(job, name), periods=periods), periods, samples)
            asked = job.analysis.get("return_periods") or ()
            found += declared_figures(perspective, years, asked, leave_out=reported)
        except (LossError, KeyError, TypeError, ValueError) as error:
            raise LossError(f"The declared metrics of the analysis {job.name}, {perspective}: {error}") from error
    return found
