"""Groups: the figures of several analyses together, computed from their period losses.

Here: which groups of a workbook can have figures, and handing their members to :mod:`irp_pipeline.losses`. Not here:
the mathematics, and saving the figures (:mod:`irp_pipeline.helpers.result.recording`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from irp_pipeline.helpers.result.curves import CurveFiles
from irp_pipeline.helpers.result.finished import (
    JobResult,
    beyond_its_years,
    existing_file,
    finished_jobs,
    require_batch,
)
from irp_pipeline.losses import Figure, LossError, Member, group
from irp_pipeline.vocabulary import Perspective

if TYPE_CHECKING:
    from irp_pipeline.workbook import Grouping, Workbook


def missing_of_groups(workbook: Workbook, analyses: Iterable[str]) -> dict[str, str | None]:
    """Say why groups of a workbook cannot have figures.

    Args:
        workbook: the workbook.
        analyses: names of the analyses that have a finished job.

    Returns:
        The reason by group, in the order of the groups; None for a group that can have figures.
    """
    there = set(analyses)
    reasons: dict[str, str | None] = {}
    for grouping in workbook.groupings_in_order():
        names = [analysis.name for analysis in workbook.analyses_in(grouping.name)]
        lacking = [name for name in names if name not in there]
        reasons[grouping.name] = f"no finished job of {', '.join(lacking)}" if lacking else None
    return reasons


def return_periods_left_out(batch_id: int) -> dict[str, str]:
    """Return of each analysis and group which return periods asked for have no figure, and why.

    Args:
        batch_id: a batch of analyses.

    Raises:
        ResultError: there is no such batch, or what a job reported is not a result.
        DatabaseError: the database refuses or is away.
    """
    from irp_pipeline.workbook import Workbook

    workbook = Workbook.from_json(require_batch(batch_id).configuration_data)
    return beyond_by_name(workbook, {job.name: job for job in finished_jobs(batch_id)})


def beyond_by_name(workbook: Workbook, jobs: Mapping[str, JobResult]) -> dict[str, str]:
    """Return what :func:`return_periods_left_out` does, for the finished jobs of a workbook by analysis."""
    members = {name: [job] for name, job in jobs.items()}
    for grouping in workbook.groupings_in_order():
        names = [analysis.name for analysis in workbook.analyses_in(grouping.name)]
        if all(name in jobs for name in names):
            members[grouping.name] = [jobs[name] for name in names]
    return {name: reason for name, of in members.items() if (reason := beyond_its_years(of))}


def group_figures(grouping: Grouping, members: Sequence[JobResult], curves: CurveFiles | None = None) -> list[Figure]:
    """Compute the figures of a group, and keep its whole curves.

    Args:
        grouping: the group.
        members: the jobs of its analyses.
        curves: where its curves are kept, if they are.

    Raises:
        LossError: its analyses cannot be combined; the message says why.
        ResultError: a file has changed since its job wrote it.
    """
    from irp_pipeline.workbook import PeriodPairing

    return_periods = {years for job in members for years in job.analysis.get("return_periods") or ()}
    return group(
        grouping.name,
        [member_of(grouping.name, job) for job in members],
        return_periods=sorted(return_periods),
        pair_by_number=grouping.period_pairing is PeriodPairing.BY_NUMBER,
        keep=None if curves is None else curves.keep(grouping.name, members, return_periods),
    )


def member_of(group_name: str, job: JobResult) -> Member:
    """Return an analysis as the member of a group, with its period losses.

    Args:
        group_name: the group, for messages.
        job: the analysis's job.

    Raises:
        LossError: the job does not say over which years its losses are.
        ResultError: a file has changed since its job wrote it.
    """
    names = {perspective: f"{perspective.lower()}_plt_sample" for perspective in Perspective}
    try:
        return Member(
            job.name,
            {perspective: existing_file(job, name) for perspective, name in names.items() if name in job.files},
            int(job.provenance["periods"]),
            int(job.provenance["samples"]),
            job.currency,
            str(job.provenance["occurrence_hash"]),
            {
                of.by: {
                    perspective: (existing_file(job, name), of.by_summary(perspective))
                    for perspective, name in of.period_losses.items()
                    if name in job.files
                }
                for of in job.segmentations
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LossError(
            f"The losses of the group {group_name} cannot be added up: job {job.job_id} of {job.name} does not say "
            f"over which years its losses are ({error})"
        ) from error
