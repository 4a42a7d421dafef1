"""Completeness: what is missing from a cycle's figures, and whether that is a failure.

Here: judging what was collected, in words for a reader. Not here: reading it
(:mod:`irp_pipeline.report.collecting`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from irp_pipeline.helpers.batch import Batch
from irp_pipeline.helpers.batch_lookup import chain_of_cycle
from irp_pipeline.helpers.batch_of_jobs import BatchError
from irp_pipeline.helpers.constants import BatchStatus, JobStatus, StepStatus
from irp_pipeline.helpers.result import JobResult, RecordedFigure, missing_of_groups
from irp_pipeline.helpers.sanity import RecordedCheck
from irp_pipeline.report.records import JobFailure, JobRecord, StageRecord, State, StepRecord, first_line

if TYPE_CHECKING:
    from irp_pipeline.workbook import Workbook

_REPORT_STEP = ("Report", 2)
_LISTED_NAMES = 10
_ENDED_BADLY = {BatchStatus.FAILED, BatchStatus.ERROR, BatchStatus.CANCELLED}


def state_of(
    stages: Iterable[StageRecord],
    failures: Sequence[JobFailure],
    batch: Batch | None,
    missing: Sequence[str],
    losses: RecordedCheck | None,
) -> State:
    """Tell whether the figures are complete, are still to come, or something failed or cannot be right."""
    failed = (
        (losses is not None and losses.errors > 0)
        or any(
            step.status is StepStatus.FAILED for stage in stages for step in stage.steps if not _is_report(stage, step)
        )
        or bool(failures)
        or (batch is not None and batch.status in _ENDED_BADLY)
    )
    return State.FAILED if failed else State.UNFINISHED if missing else State.COMPLETED


def missing_steps(stages: Iterable[StageRecord]) -> Iterator[str]:
    """Name the steps that have not done their work."""
    for stage in stages:
        for step in stage.steps:
            if _is_report(stage, step):
                continue
            name = f"Step {stage.number}.{step.number} {step.name}"
            if step.status is StepStatus.FAILED:
                yield f"{name} failed: {first_line(step.error)}"
            elif step.status is StepStatus.ACTIVE:
                yield f"{name} is at work"
            elif step.status is None:
                yield f"{name} has not run"


def _is_report(stage: StageRecord, step: StepRecord) -> bool:
    """Tell whether a step is the one that writes the report, which does not report on itself."""
    return (stage.name, step.number) == _REPORT_STEP


def missing_work(workbook: Workbook | None, batch: Batch | None, jobs: Sequence[JobRecord]) -> Iterator[str]:
    """Describe the progress of the batch of jobs, unless it is completed."""
    if workbook is None:
        yield "No workbook has been validated for this cycle"
    elif batch is None:
        yield "The jobs of the workbook's analyses have not been made"
    elif batch.status is not BatchStatus.COMPLETED:
        count = Counter(job.status for job in jobs)
        others = ", ".join(f"{number} {status}" for status, number in count.items() if status is not JobStatus.FINISHED)
        yield (
            f"{count[JobStatus.FINISHED]} of {len(jobs)} jobs are finished"
            + (f" ({others})" if others else "")
            + f"; their batch is {batch.status}"
        )


def missing_later_batches(cycle_id: int) -> Iterator[str]:
    """Name the batches after that of the analyses which are not complete."""
    try:
        links = chain_of_cycle(cycle_id)
    except BatchError as error:  # of a transformer, which a distribution may have changed since
        yield str(error)
        return
    for link in links:
        if not link.is_first and link.batch.status is not BatchStatus.COMPLETED:
            yield f"The batch {link.batch.id} of the type {link.batch.batch_type} is {link.batch.status}"


def missing_figures(
    workbook: Workbook,
    finished: Sequence[JobResult],
    saved: Sequence[RecordedFigure] | None,
    jobs: Sequence[JobRecord],
) -> Iterator[str]:
    """Name the analyses and groups without figures, and figures that are out of date."""
    there = {job.name for job in finished}
    skipped = set(skipped_analyses(workbook, jobs))
    if lacking := [item.name for item in workbook.analyses if item.name not in there | skipped]:
        yield f"There are no figures of {listed(lacking)}"
    if not saved:
        yield "The results have not been saved" + (": what follows is from finished jobs" if finished else "")
        return
    of_jobs = {job_id for figure in saved for job_id in figure.job_ids}
    if late := [job.name for job in finished if job.job_id not in of_jobs]:
        yield f"The results were saved before these analyses were finished: {', '.join(late)}"
    present = {job.job_id for job in finished}
    outdated = [figure.analysis_name for figure in saved if not {*figure.job_ids} <= present]
    if outdated:
        yield f"These figures are of jobs that were replaced or skipped since: {', '.join(dict.fromkeys(outdated))}"
    named = {figure.analysis_name for figure in saved}
    for group, reason in missing_of_groups(workbook, there).items():
        members = {analysis.name for analysis in workbook.analyses_in(group)}
        if group not in named and not members & skipped:
            yield f"The group {group} has no figures" + (f": {reason}" if reason else "")


def listed(names: Sequence[str]) -> str:
    """List names; of many, the first and how many more there are."""
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    return ", ".join(names[:_LISTED_NAMES]) + more


def skipped_analyses(workbook: Workbook, jobs: Iterable[JobRecord]) -> list[str]:
    """Return the analyses that a person skipped."""
    current = {job.analysis for job in jobs if not job.skipped}
    return [analysis.name for analysis in workbook.analyses if analysis.name not in current]
